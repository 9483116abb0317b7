// Puts pieces together to entries and writes these: an entry a write, matrices a row or a column.
//
// Where the compute unit writes the same memory, or bank of it, in this cycle, the load unit waits.
module hyq_load_fill
  import hyq_vta_pkg::*;
  import hyq_load_pkg::*;
#(
  parameter int LogBlock = 4,
  parameter int BusBytes = 16,
  localparam int Block = 1 << LogBlock
) (
  input  logic clk_i,
  input  logic signed [31:0] pad_i,
  input  logic piece_valid_i,
  output logic piece_ready_o,
  input  piece_t piece_i,
  input  logic r_valid_i,
  output logic r_ready_o,
  input  logic [BusBytes*8-1:0] r_data_i,
  input  logic inp_busy_i,
  input  logic acc_busy_i,
  output logic uop_write_o,
  output logic tbl_write_o,
  output logic prm_write_o,
  output logic inp_write_o,
  output logic acc_write_o,
  output logic wgt_write_o,
  output logic [12:0] entry_o,
  output logic [Block*128-1:0] raw_o,
  output logic [Block-1:0][7:0] inp_data_o,
  output logic [Block-1:0][31:0] acc_data_o,
  output logic [Block*Block-1:0] wgt_mask_o,
  output logic [Block*Block-1:0][7:0] wgt_data_o,
  output logic last_o
);
  localparam int RawWidth = Block * 128;

  logic [RawWidth-1:0] raw, raw_next;
  logic [BusBytes*8-1:0] beat, beat_held, part;
  logic is_inp, is_acc, blocked, fire, write;
  logic [12:0] filled, elements;

  assign is_inp = piece_i.memory == MemoryInp;
  assign is_acc = piece_i.memory inside {MemoryAcc, MemoryAcc8, MemoryAcc16, MemoryAccu8};
  assign blocked = piece_i.done && ((is_inp && inp_busy_i) || (is_acc && acc_busy_i));
  assign fire = piece_valid_i && !blocked && (!piece_i.new_beat || r_valid_i);
  assign piece_ready_o = fire;
  assign r_ready_o = fire && piece_i.new_beat;
  assign last_o = fire && piece_i.last;

  assign beat = piece_i.new_beat ? r_data_i : beat_held;
  always_comb begin
    part = beat >> {piece_i.source, 3'b0};
    for (int i = 0; i < BusBytes; i++) begin
      if (8'(i) >= piece_i.bytes) part[i*8 +: 8] = '0;
    end
  end
  assign raw_next = (piece_i.first ? '0 : raw) | (RawWidth'(part) << {piece_i.position, 3'b0});
  assign filled = piece_i.position + 13'(piece_i.bytes);
  assign elements = filled >> log_element(piece_i.memory);

  always_ff @(posedge clk_i) begin
    if (fire) raw <= raw_next;
    if (r_ready_o) beat_held <= r_data_i;
  end

  assign write = fire && piece_i.done;
  assign uop_write_o = write && piece_i.memory == MemoryUop;
  assign tbl_write_o = write && piece_i.memory == MemoryTbl;
  assign prm_write_o = write && piece_i.memory == MemoryPrm;
  assign wgt_write_o = write && piece_i.memory inside {MemoryWgt, MemoryWgtT};
  assign inp_write_o = write && is_inp;
  assign acc_write_o = write && is_acc;
  assign entry_o = piece_i.entry;
  assign raw_o = raw_next;

  always_comb begin
    for (int i = 0; i < Block; i++) begin
      inp_data_o[i] = 13'(i) < elements ? raw_next[i*8 +: 8] : pad_i[7:0];
      case (piece_i.memory)
        MemoryAcc8: acc_data_o[i] = {{24{raw_next[i*8+7]}}, raw_next[i*8 +: 8]};
        MemoryAccu8: acc_data_o[i] = {24'd0, raw_next[i*8 +: 8]};
        MemoryAcc16: acc_data_o[i] = {{16{raw_next[i*16+15]}}, raw_next[i*16 +: 16]};
        default: acc_data_o[i] = raw_next[i*32 +: 32];
      endcase
      if (13'(i) >= elements) acc_data_o[i] = pad_i;
    end
  end

  // The first row of a matrix also clears the others.
  for (genvar o = 0; o < Block; o++) begin : gen_output
    for (genvar i = 0; i < Block; i++) begin : gen_input
      localparam int At = o * Block + i;
      logic straight, across;
      assign straight = piece_i.memory == MemoryWgt && piece_i.row == 6'(o);
      assign across = piece_i.memory == MemoryWgtT && piece_i.row == 6'(i);
      assign wgt_mask_o[At] = straight || across || piece_i.row == '0;
      assign wgt_data_o[At] = straight ? raw_next[i*8 +: 8] : across ? raw_next[o*8 +: 8] : '0;
    end
  end
endmodule
