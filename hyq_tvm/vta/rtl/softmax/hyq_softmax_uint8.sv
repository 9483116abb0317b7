// SM8: p = (((e * m) >> 16) + 2^(z-1)) >> z with e = (mantissa << spare) >> octave, z = h - 9.
//
// Floors of floors compose: p = ((mantissa * m >> (shift - 1)) + 1) >> 1 with
// shift = h - 8 + MantissaBits + octave. h is at least 15, since the row's maximum weighs 2^14.
module hyq_softmax_uint8
  import hyq_softmax_pkg::*;
#(
  parameter int MantissaBits = 5,
  parameter int LengthWidth = 5
) (
  input  logic clk_i,
  input  logic [MantissaBits-1:0] mantissa_i,
  input  logic [OctaveBits-1:0] octave_i,
  input  logic [15:0] reciprocal_i,
  input  logic [LengthWidth-1:0] bits_i,
  output logic [7:0] code_o
);
  // Nine bits are left above those that every shift drops.
  localparam int Dropped = MantissaBits + 6;
  localparam int Left = 10;

  logic [MantissaBits+15:0] product;
  logic [LengthWidth-1:0] amount;
  logic [Left-1:0] shifted;

  assign shifted = product[Dropped +: Left] >> amount;
  always_ff @(posedge clk_i) begin
    product <= mantissa_i * reciprocal_i;
    amount <= bits_i - LengthWidth'(WeightBits) + LengthWidth'(octave_i);
    code_o <= 8'(shifted[Left-1:1]) + 8'(shifted[0]);
  end
endmodule
