// The sum of a word's weights, four at a time with a register behind each: `SumTime` cycles later.
module hyq_softmax_sum
#(
  parameter int Lanes = 4,
  parameter int InWidth = 15,
  parameter int OutWidth = 23
) (
  input  logic clk_i,
  input  logic [Lanes-1:0][InWidth-1:0] term_i,
  output logic [OutWidth-1:0] sum_o
);
  localparam int Groups = (Lanes + 3) / 4;
  localparam int GroupWidth = InWidth + 2;

  if (Lanes == 1) begin : gen_one
    assign sum_o = OutWidth'(term_i[0]);
  end else begin : gen_groups
    logic [Groups-1:0][GroupWidth-1:0] group, group_next;

    always_comb begin
      for (int i = 0; i < Groups; i++) begin
        group_next[i] = '0;
        for (int j = 4 * i; j < 4 * i + 4 && j < Lanes; j++) begin
          group_next[i] = group_next[i] + GroupWidth'(term_i[j]);
        end
      end
    end
    always_ff @(posedge clk_i) group <= group_next;

    hyq_softmax_sum #(
      .Lanes(Groups),
      .InWidth(GroupWidth),
      .OutWidth(OutWidth)
    ) u_rest (
      .clk_i,
      .term_i(group),
      .sum_o
    );
  end
endmodule
