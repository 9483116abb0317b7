// Several units for ROOT and RECIPROCAL, which take steps in turn and give results in the same
// order. `entry_o` and `held_o` name the entries of results that are still to come.
module hyq_statistics_pool
  import hyq_vta_pkg::*;
#(
  parameter int Units = 8
) (
  input  logic clk_i,
  input  logic rst_ni,
  // A step is taken; its operands come with `start_i`, a cycle later.
  output logic ready_o,
  input  logic take_i,
  input  logic [31:0] entry_i,
  input  logic start_i,
  input  logic root_i,
  input  logic [3:0][31:0] words_i,
  input  logic [RegisterConstant:0][63:0] registers_i,
  output logic [Units-1:0] held_o,
  output logic [Units-1:0][31:0] entry_o,
  output logic write_o,
  output logic [31:0] write_entry_o,
  output logic [3:0][31:0] words_o
);
  localparam int Bits = Units > 1 ? $clog2(Units) : 1;

  logic [Bits-1:0] next, starting, oldest;
  logic [Units-1:0] done, finished;
  logic [Units-1:0][3:0][31:0] words;

  assign ready_o = !held_o[next];
  assign write_o = finished[oldest];
  assign write_entry_o = entry_o[oldest];
  assign words_o = words[oldest];

  for (genvar i = 0; i < Units; i++) begin : gen_unit
    hyq_statistics u_unit (
      .clk_i,
      .rst_ni,
      .start_i(start_i && starting == Bits'(i)),
      .root_i,
      .words_i,
      .registers_i,
      .done_o(done[i]),
      .words_o(words[i])
    );
  end

  always_ff @(posedge clk_i) begin
    finished <= finished | done;
    starting <= next;
    if (take_i) begin
      held_o[next] <= 1'b1;
      entry_o[next] <= entry_i;
      next <= next == Bits'(Units - 1) ? '0 : next + 1'b1;
    end
    if (write_o) begin
      held_o[oldest] <= 1'b0;
      finished[oldest] <= 1'b0;
      oldest <= oldest == Bits'(Units - 1) ? '0 : oldest + 1'b1;
    end
    if (!rst_ni) begin
      held_o <= '0;
      finished <= '0;
      next <= '0;
      oldest <= '0;
    end
  end
endmodule
