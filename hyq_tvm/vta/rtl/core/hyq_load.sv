// The load unit: LOAD, and SET of its registers. A queue of pieces keeps as many reads under way as
// it has places.
module hyq_load
  import hyq_vta_pkg::*;
  import hyq_load_pkg::*;
#(
  parameter int LogBlock = 4,
  parameter int BusBytes = 16,
  parameter int LogPieces = 7,
  localparam int Block = 1 << LogBlock
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic start_i,
  input  logic [InsnWidth-1:0] insn_i,
  output logic done_o,
  output logic ar_valid_o,
  input  logic ar_ready_i,
  output logic [31:0] ar_address_o,
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
  output logic [Block*Block-1:0][7:0] wgt_data_o
);
  set_t set;
  logic is_set, last, made_valid, queue_full, piece_valid, piece_ready;
  logic [31:0] y_stride, x_stride;
  logic signed [31:0] pad;
  piece_t made, piece;

  assign set = insn_i;
  assign is_set = set.opcode == OpSet;
  assign done_o = (start_i && is_set) || last;

  always_ff @(posedge clk_i) begin
    if (start_i && is_set) begin
      case (set.register)
        RegisterLoadYStride: y_stride <= set.value[31:0];
        RegisterLoadXStride: x_stride <= set.value[31:0];
        default: pad <= set.value[31:0];
      endcase
    end
    if (!rst_ni) begin
      y_stride <= ResetLoadYStride[31:0];
      x_stride <= ResetLoadXStride[31:0];
      pad <= ResetLoadPad[31:0];
    end
  end

  hyq_load_pieces #(
    .LogBlock(LogBlock),
    .BusBytes(BusBytes)
  ) u_pieces (
    .clk_i,
    .rst_ni,
    .start_i(start_i && !is_set),
    .insn_i,
    .y_stride_i(y_stride),
    .x_stride_i(x_stride),
    .ar_valid_o,
    .ar_ready_i,
    .ar_address_o,
    .piece_valid_o(made_valid),
    .piece_ready_i(!queue_full),
    .piece_o(made)
  );

  hyq_queue #(
    .Width($bits(piece_t)),
    .LogDepth(LogPieces)
  ) u_queue (
    .clk_i,
    .rst_ni,
    .push_i(made_valid && !queue_full),
    .data_i(made),
    .full_o(queue_full),
    .pop_i(piece_ready),
    .data_o(piece),
    .valid_o(piece_valid)
  );

  hyq_load_fill #(
    .LogBlock(LogBlock),
    .BusBytes(BusBytes)
  ) u_fill (
    .clk_i,
    .pad_i(pad),
    .piece_valid_i(piece_valid),
    .piece_ready_o(piece_ready),
    .piece_i(piece),
    .last_o(last),
    .*
  );
endmodule
