// The exponential alone with the scale of its logits fixed at synthesis, for comparing kinds.
module hyq_exp_fixed
  import hyq_softmax_pkg::*;
#(
  parameter int Kind = KindLinearPot,
  parameter int DiffWidth = 8,
  parameter int LogitShift = 0,
  parameter int Period = 1,
  parameter int Offset = 0,
  parameter int Constant = 0,
  parameter int Narrow = 0
) (
  input  logic clk_i,
  input  logic [DiffWidth-1:0] diff_i,
  output logic [WeightBits-1:0] weight_o
);
  scale_t scale;
  assign scale.logit_shift = ShiftBits'(LogitShift);
  assign scale.period = PeriodBits'(Period);
  assign scale.offset = OffsetBits'(Offset);
  assign scale.constant = ConstantBits'(Constant);
  assign scale.narrow = NarrowBits'(Narrow);

  hyq_exp #(
    .Kind(Kind),
    .DiffWidth(DiffWidth),
    .FixedScale(1'b1)
  ) u_exp (
    .clk_i,
    .diff_i,
    .scale_i(scale),
    .parts_i(1'b0),
    .weight_o,
    .mantissa_o(),
    .octave_o()
  );
endmodule
