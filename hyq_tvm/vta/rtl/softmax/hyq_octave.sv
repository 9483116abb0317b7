// Range reduction of the stepped exponentials (SM5, SM6): d = min(diff << logit_shift, limit),
// q = d div period, r = d mod period, with limit = 16 * period - 1.
//
// With FixedScale the scale is a constant and q comes from comparisons with constants, in one
// cycle; otherwise four conditional subtractions, one a cycle, after one for the shift.
module hyq_octave
  import hyq_softmax_pkg::*;
#(
  parameter int DiffWidth = 8,
  parameter int RestBits = PeriodBits,
  parameter bit FixedScale = 1'b0
) (
  input  logic clk_i,
  input  logic [DiffWidth-1:0] diff_i,
  input  logic [ShiftBits-1:0] logit_shift_i,
  input  logic [RestBits-1:0] period_i,
  output logic [OctaveBits-1:0] octave_o,
  output logic [RestBits-1:0] rest_o
);
  localparam int Width = RestBits + OctaveBits;
  localparam int Shifted = DiffWidth + (1 << ShiftBits) - 1;
  localparam int Compared = Shifted > Width ? Shifted : Width;

  logic [Compared-1:0] shifted, limit;
  assign shifted = Compared'(diff_i) << logit_shift_i;
  assign limit = Compared'({period_i, {OctaveBits{1'b0}}}) - 1'b1;

  if (FixedScale) begin : gen_fixed
    logic [OctaveBits-1:0] octave;
    logic [RestBits-1:0] start;

    // `start` modulo a power of two above the period, which the rest stays below. It comes from a
    // choice of constants: synthesis would make a multiplier of a product.
    always_comb begin
      octave = '0;
      start = '0;
      for (int i = 1; i < (1 << OctaveBits); i++) begin
        if (shifted >= Compared'(period_i) * Compared'(i)) begin
          octave = OctaveBits'(i);
          start = RestBits'(Compared'(period_i) * Compared'(i));
        end
      end
    end
    always_ff @(posedge clk_i) begin
      octave_o <= octave;
      rest_o <= shifted > limit ? period_i - 1'b1 : RestBits'(shifted) - start;
    end
  end else begin : gen_runtime
    logic [Width-1:0] rest [OctaveBits+1];
    logic [OctaveBits-1:0] octave [OctaveBits+1];

    always_ff @(posedge clk_i) rest[0] <= Width'(shifted > limit ? limit : shifted);
    assign octave[0] = '0;
    for (genvar i = 0; i < OctaveBits; i++) begin : gen_stage
      localparam int Bit = OctaveBits - 1 - i;
      localparam int Wide = RestBits + Bit + 1;
      logic [Wide:0] reduced;
      assign reduced = {1'b0, rest[i][Wide-1:0]} - ((Wide + 1)'(period_i) << Bit);
      always_ff @(posedge clk_i) begin
        rest[i+1] <= Width'(reduced[Wide] ? rest[i][Wide-1:0] : reduced[Wide-1:0]);
        octave[i+1] <= octave[i] | (OctaveBits'(!reduced[Wide]) << Bit);
      end
    end
    assign octave_o = octave[OctaveBits];
    assign rest_o = rest[OctaveBits][RestBits-1:0];
  end
endmodule
