// One lane of the softmax unit: the weight of a logit, and what of it goes out.
//
// Uint8 (SM8): one product of the mantissa and the row's reciprocal, and one rounding shift; a
// shift by what the inner shift of SM8 drops and the octave composes with it without a further
// rounding. Log2 (SM9): positions of the highest bits, and one comparison.
// The weight comes `weight_time(Kind)` cycles after the logit, the result two later.
module hyq_softmax_lane
  import hyq_softmax_pkg::*;
#(
  parameter int Kind = KindLinearPot,
  parameter int Result = ResultUint8,
  parameter int LogitWidth = 10,
  parameter int SumWidth = 23,
  localparam int CodeWidth = Result == ResultLog2 ? 4 : 8,
  localparam int LengthWidth = $clog2(SumWidth + 2)
) (
  input  logic clk_i,
  input  logic signed [LogitWidth-1:0] logit_i,
  input  logic keep_i,
  input  logic signed [LogitWidth-1:0] maximum_i,
  input  scale_t scale_i,
  // The pass that gives codes.
  input  logic emit_i,
  // Uint8: the reciprocal and the bits of the sum. Log2: the highest bits of the limit and its bits.
  input  logic [15:0] factor_i,
  input  logic [LengthWidth-1:0] bits_i,
  output logic [WeightBits-1:0] weight_o,
  output logic [CodeWidth-1:0] code_o
);
  localparam int MantissaBits = mantissa_bits(Kind);
  localparam int WeightTime = weight_time(Kind);

  // Wide enough for the difference that has no weight on the grid.
  localparam int GridBits = OctaveBits + FractionBits;
  localparam int DiffWidth = LogitWidth > GridBits ? LogitWidth : GridBits;

  logic [LogitWidth-1:0] diff;
  logic [DiffWidth-1:0] diff_exp;
  logic [WeightBits-1:0] weight;
  logic [MantissaBits-1:0] mantissa;
  logic [OctaveBits-1:0] octave;

  // The grid kinds begin with a register of their own, and have a difference without weight.
  assign diff = maximum_i - logit_i;
  if (WeightTime == latency(Kind, 1'b0)) begin : gen_direct
    assign diff_exp = DiffWidth'(diff) | {DiffWidth{!keep_i}};
    assign weight_o = weight;
  end else begin : gen_held
    logic [WeightTime-1:0] kept;
    always_ff @(posedge clk_i) begin
      diff_exp <= DiffWidth'(diff);
      kept <= {kept[WeightTime-2:0], keep_i};
    end
    assign weight_o = weight & {WeightBits{kept[WeightTime-1]}};
  end

  hyq_exp #(
    .Kind(Kind),
    .DiffWidth(DiffWidth)
  ) u_exp (
    .clk_i,
    .diff_i(diff_exp),
    .scale_i,
    .parts_i(emit_i),
    .weight_o(weight),
    .mantissa_o(mantissa),
    .octave_o(octave)
  );

  if (Result == ResultUint8) begin : gen_uint8
    hyq_softmax_uint8 #(
      .MantissaBits(MantissaBits),
      .LengthWidth(LengthWidth)
    ) u_code (
      .clk_i,
      .mantissa_i(mantissa),
      .octave_i(octave),
      .reciprocal_i(factor_i),
      .bits_i,
      .code_o
    );
  end else begin : gen_log2
    hyq_softmax_log2 #(
      .MantissaBits(MantissaBits),
      .LengthWidth(LengthWidth)
    ) u_code (
      .clk_i,
      .mantissa_i(mantissa),
      .octave_i(octave),
      .limit_i(factor_i[15:16-WeightBits]),
      .bits_i,
      .code_o
    );
  end
endmodule
