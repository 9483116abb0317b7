// A queue of instructions; the first one shows without being asked for.
module hyq_queue
#(
  parameter int Width = 128,
  parameter int LogDepth = 4
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic push_i,
  input  logic [Width-1:0] data_i,
  output logic full_o,
  input  logic pop_i,
  output logic [Width-1:0] data_o,
  output logic valid_o
);
  logic [Width-1:0] cells [1 << LogDepth];
  logic [LogDepth:0] head, tail;

  assign full_o = tail - head == (LogDepth + 1)'(1 << LogDepth);
  assign valid_o = head != tail;
  assign data_o = cells[head[LogDepth-1:0]];

  always_ff @(posedge clk_i) begin
    if (push_i) begin
      cells[tail[LogDepth-1:0]] <= data_i;
      tail <= tail + 1'b1;
    end
    if (pop_i) head <= head + 1'b1;
    if (!rst_ni) begin
      head <= '0;
      tail <= '0;
    end
  end
endmodule
