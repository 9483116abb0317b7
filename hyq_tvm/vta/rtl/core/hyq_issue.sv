// Hands a unit the instructions of its queue, one after the other: an instruction starts when its
// tokens are there and there is room for those it gives, and gives them when the unit is done.
//
// `done_i` may come with `start_o`: the instruction then takes one cycle. Index 0 of tokens is the
// unit before, index 1 the unit after.
module hyq_issue
  import hyq_vta_pkg::*;
#(
  parameter int LogDepth = 4
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic push_i,
  input  logic [InsnWidth-1:0] insn_i,
  output logic full_o,
  output logic [1:0] token_pop_o,
  input  logic [1:0] token_valid_i,
  output logic [1:0] token_push_o,
  input  logic [1:0] token_full_i,
  output logic start_o,
  output logic [InsnWidth-1:0] insn_o,
  input  logic done_i,
  output logic idle_o
);
  logic [InsnWidth-1:0] head, held;
  finish_t flags, flags_held;
  logic head_valid, busy, ready;
  logic [1:0] pops, pushes, pushes_held;

  hyq_queue #(
    .Width(InsnWidth),
    .LogDepth(LogDepth)
  ) u_queue (
    .clk_i,
    .rst_ni,
    .push_i,
    .data_i(insn_i),
    .full_o,
    .pop_i(start_o),
    .data_o(head),
    .valid_o(head_valid)
  );

  // All instructions have their flags where FINISH has them.
  assign flags = head;
  assign flags_held = held;
  assign pops = {flags.pop_next, flags.pop_prev};
  assign pushes = {flags.push_next, flags.push_prev};
  assign pushes_held = {flags_held.push_next, flags_held.push_prev};
  assign ready = (pops & ~token_valid_i) == '0 && (pushes & token_full_i) == '0;

  assign start_o = head_valid && ready && !busy;
  assign insn_o = busy ? held : head;
  assign token_pop_o = start_o ? pops : '0;
  assign token_push_o = !done_i ? '0 : busy ? pushes_held : pushes;
  assign idle_o = !head_valid && !busy;

  always_ff @(posedge clk_i) begin
    if (start_o) held <= head;
    busy <= (busy || start_o) && !done_i;
    if (!rst_ni) busy <= 1'b0;
  end
endmodule
