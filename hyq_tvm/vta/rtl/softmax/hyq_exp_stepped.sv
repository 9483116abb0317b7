// The line (SM5) and the polynomial (SM6) on a fine step of the logits: e = z >> (q + narrow).
//
// Linear: z = (offset - r) * 16. Poly2: z = constant - r * (offset - r). `narrow` makes the
// mantissa at the row's maximum 15 bits wide.
module hyq_exp_stepped
  import hyq_softmax_pkg::*;
#(
  parameter int Kind = KindLinear,
  parameter int DiffWidth = 8,
  parameter bit FixedScale = 1'b0
) (
  input  logic clk_i,
  input  logic [DiffWidth-1:0] diff_i,
  input  scale_t scale_i,
  output logic [WeightBits-1:0] weight_o
);
  localparam bit Poly2 = Kind == KindPoly2;
  // The polynomial's step is eight times that of the line: 8 and 10 bits instead of 11 and 12.
  localparam int RestBits = Poly2 ? PeriodBits - 3 : PeriodBits;
  localparam int LineBits = Poly2 ? OffsetBits - 2 : OffsetBits;
  localparam int RaisedBits = Poly2 ? ConstantBits : OffsetBits + 4;

  logic [OctaveBits-1:0] octave, octave_line, octave_raised;
  logic [RestBits-1:0] rest;
  logic [LineBits-1:0] line;
  logic [RaisedBits-1:0] raised;

  hyq_octave #(
    .DiffWidth(DiffWidth),
    .RestBits(RestBits),
    .FixedScale(FixedScale)
  ) u_octave (
    .clk_i,
    .diff_i,
    .logit_shift_i(scale_i.logit_shift),
    .period_i(scale_i.period[RestBits-1:0]),
    .octave_o(octave),
    .rest_o(rest)
  );

  always_ff @(posedge clk_i) begin
    line <= LineBits'(scale_i.offset) - LineBits'(rest);
    octave_line <= octave;
  end

  if (Poly2) begin : gen_poly2
    logic [RestBits-1:0] rest_line;
    logic [RestBits+LineBits-1:0] product;
    logic [OctaveBits-1:0] octave_product;

    always_ff @(posedge clk_i) begin
      rest_line <= rest;
      product <= rest_line * line;
      octave_product <= octave_line;
      raised <= scale_i.constant - product;
      octave_raised <= octave_product;
    end
  end else begin : gen_linear
    assign raised = {line, 4'b0};
    assign octave_raised = octave_line;
  end

  logic [OctaveBits:0] amount;
  assign amount = octave_raised + (OctaveBits + 1)'(scale_i.narrow);
  always_ff @(posedge clk_i) weight_o <= WeightBits'(raised >> amount);
endmodule
