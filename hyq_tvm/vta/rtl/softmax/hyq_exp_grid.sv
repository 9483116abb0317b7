// The exponentials on the grid ln2 / 16 (SM3, SM4): a mantissa for the fraction of an octave,
// shifted right once an octave. No constant depends on the scale of the logits.
//
// What the shift drops is 0 in `mantissa_o`, so that weight = (mantissa << spare) >> octave holds
// without rounding. The weight and its two parts share a register: `parts_i` chooses.
module hyq_exp_grid
  import hyq_softmax_pkg::*;
#(
  parameter int Kind = KindLinearPot,
  parameter int DiffWidth = 10,
  localparam int MantissaBits = mantissa_bits(Kind)
) (
  input  logic clk_i,
  input  logic [DiffWidth-1:0] diff_i,
  input  logic parts_i,
  output logic [WeightBits-1:0] weight_o,
  output logic [MantissaBits-1:0] mantissa_o,
  output logic [OctaveBits-1:0] octave_o
);
  localparam int GridBits = OctaveBits + FractionBits;
  localparam int Spare = WeightBits - MantissaBits;

  // The last octave, 15, holds no weight, so that it also stands for all beyond.
  logic [GridBits-1:0] d;
  logic [OctaveBits-1:0] octave;
  logic [MantissaBits-1:0] mantissa_row, dropped;

  if (DiffWidth > GridBits) begin : gen_saturate
    always_ff @(posedge clk_i) d <= diff_i[GridBits-1:0] | {GridBits{|diff_i[DiffWidth-1:GridBits]}};
  end else begin : gen_fits
    always_ff @(posedge clk_i) d <= GridBits'(diff_i);
  end

  assign octave = d[GridBits-1:FractionBits];
  if (Kind == KindLinearPot) begin : gen_line
    assign mantissa_row = {1'b1, ~d[FractionBits-1:0]};
  end else begin : gen_table
    assign mantissa_row = mantissa(d[FractionBits-1:0]);
  end
  for (genvar i = 0; i < MantissaBits; i++) begin : gen_dropped
    assign dropped[i] = octave > OctaveBits'(i + Spare);
  end

  localparam int Parts = MantissaBits + OctaveBits;
  localparam int Width = Parts > WeightBits ? Parts : WeightBits;
  logic [Width-1:0] result;

  assign weight_o = result[WeightBits-1:0];
  assign {mantissa_o, octave_o} = result[Parts-1:0];
  always_ff @(posedge clk_i) begin
    result <= Width'({mantissa_row, {Spare{1'b0}}} >> octave);
    if (parts_i) result <= Width'({mantissa_row & ~dropped, octave});
  end
endmodule
