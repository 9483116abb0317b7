// Cuts a LOAD into pieces, one a cycle: bytes of one word of the bus that go to one entry, or an
// entry of padding. Each word of the bus is asked for once for all neighbouring pieces in it.
module hyq_load_pieces
  import hyq_vta_pkg::*;
  import hyq_load_pkg::*;
#(
  parameter int LogBlock = 4,
  parameter int BusBytes = 16
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic start_i,
  input  load_t insn_i,
  input  logic [31:0] y_stride_i,
  input  logic [31:0] x_stride_i,
  output logic ar_valid_o,
  input  logic ar_ready_i,
  output logic [31:0] ar_address_o,
  output logic piece_valid_o,
  input  logic piece_ready_i,
  output piece_t piece_o
);
  localparam int Block = 1 << LogBlock;
  localparam int LogBus = $clog2(BusBytes);

  load_t insn;
  logic active, beat_known;
  logic [14:0] y, x, y_end, x_end;
  logic [31:0] row_address, run_address, address;
  logic [31-LogBus:0] beat;
  logic [17:0] run_left, run_bytes;
  logic [12:0] entry_left, entry_size;
  logic [12:0] entry, block_base, column_block;
  logic [12:0] entries_run, blocks;
  logic matrix, transposed, is_data, run_done, row_done, last, fire, new_beat;
  logic [17:0] bytes, beat_left;

  assign matrix = insn.memory == MemoryWgt || insn.memory == MemoryWgtT;
  assign transposed = insn.memory == MemoryWgtT;
  assign entries_run = 13'((32'(insn.length) + Block - 1) >> LogBlock);
  assign blocks = 13'((32'(insn.x_size) + Block - 1) >> LogBlock);

  assign entry_size = entry_bytes(insn.memory, 13'(Block));
  assign run_bytes = 18'(insn.length) << log_element(insn.memory);

  assign y_end = 15'(insn.pad_top) + 15'(insn.y_size);
  assign x_end = 15'(insn.pad_left) + 15'(insn.x_size);
  assign is_data = y >= 15'(insn.pad_top) && y < y_end && x >= 15'(insn.pad_left) && x < x_end;

  assign beat_left = 18'(BusBytes) - 18'(address[LogBus-1:0]);
  always_comb begin
    bytes = is_data ? run_left : '0;
    if (bytes > beat_left) bytes = beat_left;
    if (bytes > 18'(entry_left)) bytes = 18'(entry_left);
  end
  assign piece_o.padding = !is_data;
  assign piece_o.memory = insn.memory;
  assign piece_o.source = 8'(address[LogBus-1:0]);
  assign piece_o.first = entry_left == entry_size;
  assign piece_o.position = entry_size - entry_left;
  assign piece_o.bytes = 8'(bytes);
  assign piece_o.done = is_data ? bytes == run_left || bytes == 18'(entry_left) : 1'b1;
  assign piece_o.new_beat = new_beat;
  assign piece_o.last = last;
  assign piece_o.entry = !matrix ? entry : block_base + column_block;
  assign piece_o.row = 6'(x[LogBlock-1:0]);

  assign run_done = is_data ? bytes == run_left
      : 18'(column_block) + 18'd1 == 18'(entries_run);
  assign row_done = run_done && x + 15'd1 == x_end + 15'(insn.pad_right);
  assign last = row_done && y + 15'd1 == y_end + 15'(insn.pad_bottom);

  assign new_beat = is_data && !(beat_known && beat == address[31:LogBus]);
  assign ar_valid_o = active && new_beat && piece_ready_i;
  assign ar_address_o = {address[31:LogBus], {LogBus{1'b0}}};
  assign piece_valid_o = active && (!new_beat || ar_ready_i);
  assign fire = piece_valid_o && piece_ready_i;

  always_ff @(posedge clk_i) begin
    if (fire) begin
      if (is_data) begin
        beat <= address[31:LogBus];
        beat_known <= 1'b1;
      end
      address <= address + 32'(bytes);
      run_left <= run_left - bytes;
      entry_left <= piece_o.done ? entry_size : entry_left - 13'(bytes);
      if (piece_o.done) begin
        entry <= entry + 1'b1;
        column_block <= column_block + (transposed ? blocks : 13'd1);
      end
      if (run_done) begin
        run_left <= run_bytes;
        column_block <= '0;
        x <= row_done ? '0 : x + 1'b1;
        if (is_data) begin
          run_address <= run_address + x_stride_i;
          address <= run_address + x_stride_i;
        end
        if (matrix && x[LogBlock-1:0] == '1 && !row_done) begin
          block_base <= block_base + (transposed ? 13'd1 : entries_run);
        end
      end
      if (row_done) begin
        y <= y + 1'b1;
        if (y >= 15'(insn.pad_top)) begin
          row_address <= row_address + y_stride_i;
          run_address <= row_address + y_stride_i;
          address <= row_address + y_stride_i;
        end else begin
          run_address <= row_address;
          address <= row_address;
        end
        // The matrix behind this one: it begins after all blocks of this one.
        if (matrix) block_base <= 13'(insn.sram) + 13'((y + 15'd1) * entries_run * blocks);
      end
      if (last) active <= 1'b0;
    end
    if (start_i) begin
      insn <= insn_i;
      active <= 1'b1;
      beat_known <= 1'b0;
      y <= '0;
      x <= '0;
      entry <= insn_i.sram;
      block_base <= insn_i.sram;
      column_block <= '0;
      row_address <= insn_i.dram;
      run_address <= insn_i.dram;
      address <= insn_i.dram;
      entry_left <= entry_bytes(insn_i.memory, 13'(Block));
      run_left <= 18'(insn_i.length) << log_element(insn_i.memory);
    end
    if (!rst_ni) active <= 1'b0;
  end
endmodule
