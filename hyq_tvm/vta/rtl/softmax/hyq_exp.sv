// 2^-d in all its kinds behind one interface: differences to the row's maximum in, weights of 15
// bits out, `hyq_softmax_pkg::latency(Kind, FixedScale)` cycles later.
//
// weight_o = (mantissa_o << (15 - MantissaBits)) >> octave_o, exactly; `parts_i` chooses which side
// is given. Kinds whose mantissa is not at hand give the weight itself with octave 0. The largest
// difference of the grid kinds has no weight.
module hyq_exp
  import hyq_softmax_pkg::*;
#(
  parameter int Kind = KindLinearPot,
  parameter int DiffWidth = 10,
  parameter bit FixedScale = 1'b0,
  localparam int MantissaBits = mantissa_bits(Kind)
) (
  input  logic clk_i,
  input  logic [DiffWidth-1:0] diff_i,
  input  scale_t scale_i,
  input  logic parts_i,
  output logic [WeightBits-1:0] weight_o,
  output logic [MantissaBits-1:0] mantissa_o,
  output logic [OctaveBits-1:0] octave_o
);
  if (Kind == KindLinearPot || Kind == KindTable) begin : gen_grid
    hyq_exp_grid #(
      .Kind(Kind),
      .DiffWidth(DiffWidth)
    ) u_exp (
      .clk_i,
      .diff_i,
      .parts_i,
      .weight_o,
      .mantissa_o,
      .octave_o
    );
  end else begin : gen_stepped
    hyq_exp_stepped #(
      .Kind(Kind),
      .DiffWidth(DiffWidth),
      .FixedScale(FixedScale)
    ) u_exp (
      .clk_i,
      .diff_i,
      .scale_i,
      .weight_o
    );
    assign mantissa_o = weight_o;
    assign octave_o = '0;
  end
endmodule
