// The loop nest of GEMM and VECTOR: a step a cycle, its three indices ready-made.
//
// The step shows while `valid_o`; `ready_i` takes it. `busy_o` ends with the last step taken.
module hyq_nest
  import hyq_vta_pkg::*;
#(
  parameter int UopBits = 13
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic start_i,
  input  logic [UopBits:0] uop_begin_i,
  input  logic [UopBits:0] uop_end_i,
  input  logic [13:0] iter_out_i,
  input  logic [13:0] iter_in_i,
  // Steps of dst, src and third: outer, inner.
  input  logic [2:0][10:0] outer_i,
  input  logic [2:0][10:0] inner_i,
  output logic [UopBits-1:0] uop_address_o,
  input  uop_t uop_i,
  output logic valid_o,
  input  logic ready_i,
  output logic [2:0][31:0] index_o,
  output logic busy_o
);
  logic running, fetched, advance;
  logic [UopBits:0] position, fetched_position;
  logic [13:0] x, y;
  logic [2:0][31:0] base, row_base, fetched_base;
  logic last_uop, last_x, last_y;

  assign last_uop = position + 1'b1 == uop_end_i;
  assign last_x = x + 1'b1 == iter_in_i;
  assign last_y = y + 1'b1 == iter_out_i;

  // The stage behind the micro-op memory moves when its output is taken or empty.
  assign advance = !fetched || !valid_o || ready_i;
  assign uop_address_o = UopBits'(advance ? position : fetched_position);
  assign busy_o = running || fetched || valid_o;

  always_ff @(posedge clk_i) begin
    if (valid_o && ready_i) valid_o <= 1'b0;
    if (fetched && (!valid_o || ready_i)) begin
      valid_o <= 1'b1;
      index_o[0] <= 32'(uop_i.dst) + fetched_base[0];
      index_o[1] <= 32'(uop_i.src) + fetched_base[1];
      index_o[2] <= 32'(uop_i.third) + fetched_base[2];
    end
    if (advance) begin
      fetched <= running;
      fetched_base <= base;
      fetched_position <= position;
      if (running) begin
        position <= last_uop ? uop_begin_i : position + 1'b1;
        if (last_uop) begin
          x <= last_x ? '0 : x + 1'b1;
          for (int i = 0; i < 3; i++) begin
            base[i] <= last_x ? row_base[i] + 32'(outer_i[i]) : base[i] + 32'(inner_i[i]);
            if (last_x) row_base[i] <= row_base[i] + 32'(outer_i[i]);
          end
          if (last_x) y <= y + 1'b1;
          if (last_x && last_y) running <= 1'b0;
        end
      end
    end
    if (start_i) begin
      running <= 1'b1;
      position <= uop_begin_i;
      x <= '0;
      y <= '0;
      base <= '0;
      row_base <= '0;
    end
    if (!rst_ni) begin
      running <= 1'b0;
      fetched <= 1'b0;
      valid_o <= 1'b0;
    end
  end
endmodule
