// A queue of tokens: their number.
module hyq_tokens
#(
  parameter int LogDepth = 4
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic push_i,
  output logic full_o,
  input  logic pop_i,
  output logic valid_o
);
  logic [LogDepth:0] count;

  assign full_o = count == (LogDepth + 1)'(1 << LogDepth);
  assign valid_o = count != '0;

  always_ff @(posedge clk_i) begin
    count <= count + (LogDepth + 1)'(push_i) - (LogDepth + 1)'(pop_i);
    if (!rst_ni) count <= '0;
  end
endmodule
