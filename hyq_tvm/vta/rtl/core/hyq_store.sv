// The store unit: STORE, and SET of its registers. A write a cycle: the bytes of one entry that lie
// in one word of the bus. A STORE is done when all its writes are confirmed.
module hyq_store
  import hyq_vta_pkg::*;
  import hyq_load_pkg::*;
#(
  parameter int LogBlock = 4,
  parameter int BusBytes = 16,
  parameter int EntryBits = 11,
  localparam int Block = 1 << LogBlock
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic start_i,
  input  logic [InsnWidth-1:0] insn_i,
  output logic done_o,
  output logic [EntryBits-1:0] acc_address_o,
  input  logic [Block-1:0][31:0] acc_data_i,
  output logic w_valid_o,
  input  logic w_ready_i,
  output logic [31:0] w_address_o,
  output logic [BusBytes*8-1:0] w_data_o,
  output logic [BusBytes-1:0] w_strobe_o,
  input  logic b_valid_i
);
  localparam int LogBus = $clog2(BusBytes);
  localparam int RawWidth = Block * 32;

  store_t insn, fresh;
  set_t set;
  logic is_set, active, advance, piece_valid, run_done, row_done, last, finishing;
  logic [31:0] y_stride, x_stride, row_address, run_address, address;
  logic [13:0] y, x;
  logic [17:0] run_left, run_bytes, bytes, beat_left;
  logic [12:0] entry, entry_left, entry_size;
  logic [15:0] unconfirmed;

  assign set = insn_i;
  assign fresh = insn_i;
  assign is_set = set.opcode == OpSet;

  assign entry_size = entry_bytes(insn.memory, 13'(Block));
  assign run_bytes = 18'(insn.length) << log_element(insn.memory);
  assign beat_left = 18'(BusBytes) - 18'(address[LogBus-1:0]);
  always_comb begin
    bytes = run_left;
    if (bytes > beat_left) bytes = beat_left;
    if (bytes > 18'(entry_left)) bytes = 18'(entry_left);
  end
  assign run_done = bytes == run_left;
  assign row_done = run_done && x + 14'd1 == insn.x_size;
  assign last = row_done && y + 14'd1 == insn.y_size;

  // The piece whose entry is being read.
  logic [31:0] piece_address;
  logic [12:0] piece_position, piece_entry;
  logic [7:0] piece_bytes;
  assign advance = !piece_valid || w_ready_i;
  assign acc_address_o = EntryBits'(advance ? entry : piece_entry);

  always_ff @(posedge clk_i) begin
    if (start_i && is_set) begin
      if (set.register == RegisterStoreYStride) y_stride <= set.value[31:0];
      else x_stride <= set.value[31:0];
    end
    if (advance) begin
      piece_valid <= active;
      piece_address <= address;
      piece_position <= entry_size - entry_left;
      piece_bytes <= 8'(bytes);
      piece_entry <= entry;
    end
    if (active && advance) begin
      address <= address + 32'(bytes);
      run_left <= run_left - bytes;
      entry_left <= entry_left - 13'(bytes);
      if (run_done || bytes == 18'(entry_left)) begin
        entry <= entry + 1'b1;
        entry_left <= entry_size;
      end
      if (run_done) begin
        run_left <= run_bytes;
        x <= row_done ? '0 : x + 1'b1;
        run_address <= run_address + x_stride;
        address <= run_address + x_stride;
      end
      if (row_done) begin
        y <= y + 1'b1;
        row_address <= row_address + y_stride;
        run_address <= row_address + y_stride;
        address <= row_address + y_stride;
      end
      if (last) active <= 1'b0;
    end
    if (start_i && !is_set) begin
      insn <= insn_i;
      active <= 1'b1;
      finishing <= 1'b1;
      y <= '0;
      x <= '0;
      entry <= fresh.sram;
      row_address <= fresh.dram;
      run_address <= fresh.dram;
      address <= fresh.dram;
      entry_left <= entry_bytes(fresh.memory, 13'(Block));
      run_left <= 18'(fresh.length) << log_element(fresh.memory);
    end
    if (done_o) finishing <= 1'b0;
    unconfirmed <= unconfirmed + 16'(w_valid_o && w_ready_i) - 16'(b_valid_i);
    if (!rst_ni) begin
      y_stride <= ResetStoreYStride[31:0];
      x_stride <= ResetStoreXStride[31:0];
      active <= 1'b0;
      piece_valid <= 1'b0;
      finishing <= 1'b0;
      unconfirmed <= '0;
    end
  end

  assign done_o = (start_i && is_set)
      || (finishing && !active && !piece_valid && unconfirmed == 16'(b_valid_i));

  // Saturated bytes of the entry, moved to their place in the word.
  logic [RawWidth-1:0] raw, moved;
  always_comb begin
    raw = '0;
    for (int i = 0; i < Block; i++) begin
      case (insn.memory)
        MemoryAcc8: raw[i*8 +: 8] = 8'(saturated(acc_data_i[i], -128, 127));
        MemoryAccu8: raw[i*8 +: 8] = 8'(saturated(acc_data_i[i], 0, 255));
        MemoryAcc16: raw[i*16 +: 16] = 16'(saturated(acc_data_i[i], -32768, 32767));
        default: raw[i*32 +: 32] = acc_data_i[i];
      endcase
    end
    moved = raw >> {piece_position, 3'b0};
  end
  assign w_valid_o = piece_valid;
  assign w_address_o = {piece_address[31:LogBus], {LogBus{1'b0}}};
  assign w_data_o = (BusBytes * 8)'(moved) << {piece_address[LogBus-1:0], 3'b0};
  always_comb begin
    for (int i = 0; i < BusBytes; i++) begin
      w_strobe_o[i] = 9'(i) >= 9'(piece_address[LogBus-1:0])
          && 9'(i) < 9'(piece_address[LogBus-1:0]) + 9'(piece_bytes);
    end
  end

  function automatic logic signed [31:0] saturated(
      logic signed [31:0] value, logic signed [31:0] low, logic signed [31:0] high);
    saturated = value < low ? low : value > high ? high : value;
  endfunction
endmodule
