// SM9: the largest code with e * 2^code <= limit, at most 15, for e = (mantissa << spare) >> octave;
// 15 where e is 0. `limit_i`: the highest bits of the limit, its first bit set; `bits_i`: its bits.
module hyq_softmax_log2
  import hyq_softmax_pkg::*;
#(
  parameter int MantissaBits = 5,
  parameter int LengthWidth = 5
) (
  input  logic clk_i,
  input  logic [MantissaBits-1:0] mantissa_i,
  input  logic [OctaveBits-1:0] octave_i,
  input  logic [WeightBits-1:0] limit_i,
  input  logic [LengthWidth-1:0] bits_i,
  output logic [3:0] code_o
);
  localparam int Wide = LengthWidth + 1;

  logic [OctaveBits-1:0] leading, octave_moved;
  logic [MantissaBits-1:0] moved;
  logic [Wide-1:0] behind, code;
  logic nothing, above;

  // Mantissas of the grid kinds have their first bit set; the others are moved there.
  always_comb begin
    leading = '0;
    for (int i = 0; i < MantissaBits; i++) begin
      if (mantissa_i[i]) leading = OctaveBits'(MantissaBits - 1 - i);
    end
  end

  if (MantissaBits == WeightBits) begin : gen_move
    always_ff @(posedge clk_i) begin
      moved <= mantissa_i << leading;
      octave_moved <= octave_i + leading;
      nothing <= mantissa_i == '0;
    end
  end else begin : gen_keep
    always_ff @(posedge clk_i) begin
      moved <= mantissa_i;
      octave_moved <= octave_i;
      nothing <= !mantissa_i[MantissaBits-1];
    end
  end

  assign behind = Wide'(bits_i) - Wide'(WeightBits) + Wide'(octave_moved);
  assign above = moved > limit_i[WeightBits-1 -: MantissaBits];
  assign code = nothing ? '1 : behind - Wide'(above);
  always_ff @(posedge clk_i) begin
    code_o <= |code[Wide-1:4] ? 4'd15 : code[3:0];
  end
endmodule
