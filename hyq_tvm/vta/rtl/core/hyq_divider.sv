// quotient = numerator div denominator, a bit a cycle, for quotients below 2^33: 34 cycles.
module hyq_divider (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic start_i,
  input  logic [63:0] numerator_i,
  input  logic [31:0] denominator_i,
  output logic done_o,
  output logic [32:0] quotient_o
);
  logic [31:0] denominator, rest;
  logic [32:0] low, reduced;
  logic [5:0] left;

  assign reduced = {rest, low[32]} - {1'b0, denominator};
  assign done_o = left == 6'd1;

  always_ff @(posedge clk_i) begin
    if (left != '0) begin
      rest <= reduced[32] ? {rest[30:0], low[32]} : reduced[31:0];
      low <= low << 1;
      quotient_o <= {quotient_o[31:0], !reduced[32]};
      left <= left - 1'b1;
    end
    if (start_i) begin
      denominator <= denominator_i;
      rest <= {1'b0, numerator_i[63:33]};
      low <= numerator_i[32:0];
      left <= 6'd33;
    end
    if (!rst_ni) left <= '0;
  end
endmodule
