// What SOFTMAX makes of a weight, two cycles later.
module hyq_softmax_result
  import hyq_vta_pkg::*;
(
  input  logic clk_i,
  input  logic [2:0] result_i,
  input  logic [RegisterConstant:0][63:0] registers_i,
  // The row: bits of its sum, reciprocal or (LOG2) limit, bits of the limit.
  input  logic [5:0] length_i,
  input  logic [32:0] factor_i,
  input  logic [5:0] limit_length_i,
  input  logic [31:0] weight_i,
  output logic [31:0] value_o
);
  logic [31:0] weight;
  logic [63:0] product, inner, shifted, value;
  logic [5:0] shift, bits;
  logic signed [6:0] code, code_next;

  always_comb begin
    bits = '0;
    for (int i = 0; i < 32; i++) if (weight_i[i]) bits = 6'(i + 1);
    code_next = 7'(limit_length_i) - 7'(bits);
    if (64'(weight_i) << code_next > 64'(factor_i)) code_next = code_next - 7'd1;
    if (weight_i == '0 || code_next > 7'sd15) code_next = 7'sd15;
  end

  always_comb begin
    shift = length_i + 6'(registers_i[RegisterRescaleShift]);
    inner = product;
    if (result_i == ResultUint8) begin
      shift = length_i + 6'd6 - 6'(registers_i[RegisterWeightBits]);
      inner = $signed(product) >>> 16;
    end
    shifted = $signed(inner + ((64'd1 << shift) >> 1)) >>> shift;
    value = shifted + registers_i[RegisterZeroPoint];
    if ($signed(value) < $signed(registers_i[RegisterLow])) value = registers_i[RegisterLow];
    if ($signed(value) > $signed(registers_i[RegisterHigh])) value = registers_i[RegisterHigh];
  end

  always_ff @(posedge clk_i) begin
    weight <= weight_i;
    product <= 64'(weight_i) * 64'(factor_i);
    code <= code_next;
    case (result_i)
      ResultUint8: value_o <= shifted[31:0];
      ResultLog2: value_o <= 32'(code);
      ResultGrid: value_o <= value[31:0];
      default: value_o <= weight;
    endcase
  end
endmodule
