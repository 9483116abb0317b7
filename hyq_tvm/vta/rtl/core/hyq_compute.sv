// The compute unit: GEMM, VECTOR, SOFTMAX, FINISH and SET of its registers, one after the other.
// What an instruction reads comes from memories outside, a cycle after the address.
module hyq_compute
  import hyq_vta_pkg::*;
#(
  parameter int LogBlock = 4,
  parameter int SoftmaxLanes = 16,
  parameter int UopBits = 13,
  parameter int InpBits = 11,
  parameter int WgtBits = 10,
  parameter int AccBits = 11,
  parameter int TblBits = 13,
  parameter int PrmBits = 7,
  parameter int Dividers = 8,
  localparam int Block = 1 << LogBlock
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic start_i,
  input  logic [InsnWidth-1:0] insn_i,
  output logic done_o,
  output logic finish_o,
  output logic [UopBits-1:0] uop_address_o,
  input  uop_t uop_i,
  output logic [InpBits-1:0] inp_address_o,
  input  logic [Block-1:0][7:0] inp_i,
  output logic [WgtBits-1:0] wgt_address_o,
  input  logic [Block*Block-1:0][7:0] wgt_i,
  output logic [2:0][AccBits-1:0] acc_address_o,
  input  logic [2:0][Block-1:0][31:0] acc_i,
  output logic [Block-1:0][TblBits-1:0] tbl_address_o,
  input  logic [Block-1:0][1:0][15:0] tbl_i,
  output logic [PrmBits-1:0] prm_address_o,
  input  logic [Block-1:0][127:0] prm_i,
  output logic acc_write_o,
  output logic inp_write_o,
  output logic [31:0] write_entry_o,
  output logic [Block-1:0][31:0] write_data_o
);
  set_t set;
  gemm_t gemm;
  vector_t vector;
  softmax_t softmax;
  logic is_set, is_finish, is_gemm, is_vector, is_softmax, active, instant;
  logic [RegisterConstant:0][63:0] registers;

  assign set = insn_i;
  assign gemm = insn_i;
  assign vector = insn_i;
  assign softmax = insn_i;
  assign is_set = set.opcode == OpSet;
  assign is_finish = set.opcode == OpFinish;
  assign is_gemm = set.opcode == OpGemm;
  assign is_vector = set.opcode == OpVector;
  assign is_softmax = set.opcode == OpSoftmax;
  assign instant = start_i && (is_set || is_finish);
  assign finish_o = start_i && is_finish;

  hyq_registers u_registers (
    .clk_i,
    .rst_ni,
    .write_i(start_i && is_set),
    .register_i(set.register),
    .value_i(set.value),
    .registers_o(registers)
  );

  // The loop nest of GEMM and VECTOR.
  logic nest_valid, nest_ready, nest_busy, vector_ready;
  logic [2:0][31:0] index;
  logic [2:0][10:0] outer, inner;
  always_comb begin
    outer = {5'd0, vector.third_out, vector.src_out, vector.dst_out};
    inner = {5'd0, vector.third_in, vector.src_in, vector.dst_in};
    if (is_gemm) begin
      outer = {1'b0, gemm.wgt_out, gemm.src_out, gemm.dst_out};
      inner = {1'b0, gemm.wgt_in, gemm.src_in, gemm.dst_in};
    end
  end
  assign nest_ready = is_gemm || vector_ready;
  hyq_nest #(
    .UopBits(UopBits)
  ) u_nest (
    .clk_i,
    .rst_ni,
    .start_i(start_i && (is_gemm || is_vector)),
    .uop_begin_i((UopBits + 1)'(is_gemm ? gemm.uop_begin : vector.uop_begin)),
    .uop_end_i((UopBits + 1)'(is_gemm ? gemm.uop_end : vector.uop_end)),
    .iter_out_i(is_gemm ? gemm.iter_out : vector.iter_out),
    .iter_in_i(is_gemm ? gemm.iter_in : vector.iter_in),
    .outer_i(outer),
    .inner_i(inner),
    .uop_address_o,
    .uop_i,
    .valid_o(nest_valid),
    .ready_i(nest_ready),
    .index_o(index),
    .busy_o(nest_busy)
  );

  logic gemm_write, gemm_busy;
  logic [AccBits-1:0] gemm_address, gemm_entry;
  logic [Block-1:0][31:0] gemm_data;
  assign inp_address_o = InpBits'(index[1]);
  assign wgt_address_o = WgtBits'(index[2]);
  hyq_gemm #(
    .LogBlock(LogBlock),
    .AccBits(AccBits)
  ) u_gemm (
    .clk_i,
    .rst_ni,
    .valid_i(is_gemm && nest_valid),
    .entry_i(AccBits'(index[0])),
    .init_i(gemm.init),
    .unsigned_i(gemm.inp_u8),
    .inp_i,
    .wgt_i,
    .acc_address_o(gemm_address),
    .acc_i(acc_i[0]),
    .write_o(gemm_write),
    .write_entry_o(gemm_entry),
    .write_data_o(gemm_data),
    .busy_o(gemm_busy)
  );

  logic vector_write, vector_busy;
  logic [31:0] vector_entry;
  logic [Block-1:0][31:0] vector_data;
  logic [Block-1:0][TblBits-1:0] vector_place;
  logic [Block-1:0][15:0] tbl_first;
  assign prm_address_o = PrmBits'(index[2]);
  for (genvar i = 0; i < Block; i++) begin : gen_first
    assign tbl_first[i] = tbl_i[i][0];
  end
  hyq_vector #(
    .LogBlock(LogBlock),
    .AccBits(AccBits),
    .TblBits(TblBits),
    .Dividers(Dividers)
  ) u_vector (
    .clk_i,
    .rst_ni,
    .insn_i(vector),
    .registers_i(registers),
    .valid_i(is_vector && nest_valid),
    .ready_o(vector_ready),
    .index_i(index),
    .a_i(acc_i[0]),
    .b_i(acc_i[1]),
    .row_i(acc_i[2]),
    .parameter_i(prm_i),
    .tbl_address_o(vector_place),
    .tbl_i(tbl_first),
    .write_o(vector_write),
    .write_entry_o(vector_entry),
    .write_data_o(vector_data),
    .busy_o(vector_busy)
  );

  logic softmax_write, softmax_inp, softmax_done;
  logic [31:0] softmax_entry;
  logic [AccBits-1:0] softmax_address, scan_address;
  logic [Block-1:0][31:0] softmax_data;
  logic [SoftmaxLanes-1:0][TblBits-1:0] softmax_place;
  hyq_softmax_op #(
    .LogBlock(LogBlock),
    .Lanes(SoftmaxLanes),
    .AccBits(AccBits),
    .TblBits(TblBits)
  ) u_softmax (
    .clk_i,
    .rst_ni,
    .start_i(start_i && is_softmax),
    .insn_i(softmax),
    .registers_i(registers),
    .acc_address_o(softmax_address),
    .acc_i(acc_i[0]),
    .scan_address_o(scan_address),
    .scan_i(acc_i[1]),
    .tbl_address_o(softmax_place),
    .tbl_i(tbl_i[SoftmaxLanes-1:0]),
    .write_o(softmax_write),
    .write_inp_o(softmax_inp),
    .write_entry_o(softmax_entry),
    .write_data_o(softmax_data),
    .done_o(softmax_done)
  );

  always_comb begin
    acc_address_o = {AccBits'(index[2]), AccBits'(index[1]), AccBits'(index[0])};
    tbl_address_o = vector_place;
    write_entry_o = vector_entry;
    write_data_o = vector_data;
    inp_write_o = vector_write && vector.target == TargetInp;
    acc_write_o = vector_write && vector.target == TargetAcc;
    if (is_gemm) begin
      acc_address_o[0] = gemm_address;
      write_entry_o = 32'(gemm_entry);
      write_data_o = gemm_data;
      inp_write_o = 1'b0;
      acc_write_o = gemm_write;
    end else if (is_softmax) begin
      acc_address_o[0] = softmax_address;
      acc_address_o[1] = scan_address;
      tbl_address_o[SoftmaxLanes-1:0] = softmax_place;
      write_entry_o = softmax_entry;
      write_data_o = softmax_data;
      inp_write_o = softmax_write && softmax_inp;
      acc_write_o = softmax_write && !softmax_inp;
    end
  end

  assign done_o = instant || (active && (is_softmax ? softmax_done
      : !nest_busy && !gemm_busy && !vector_busy));
  always_ff @(posedge clk_i) begin
    active <= (active || (start_i && !instant)) && !done_o;
    if (!rst_ni) active <= 1'b0;
  end
endmodule
