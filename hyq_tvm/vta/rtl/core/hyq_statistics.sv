// ROOT and RECIPROCAL: the numbers of one row, bit by bit.
//
// ROOT tries the bits of R from the highest, one a cycle; RECIPROCAL divides.
module hyq_statistics
  import hyq_vta_pkg::*;
(
  input  logic clk_i,
  input  logic rst_ni,
  input  logic start_i,
  input  logic root_i,
  input  logic [3:0][31:0] words_i,
  input  logic [RegisterConstant:0][63:0] registers_i,
  output logic done_o,
  output logic [3:0][31:0] words_o
);
  typedef enum logic [2:0] {Idle, Variance, Leading, Normal, Search, Quotient} state_e;
  state_e state;
  logic signed [63:0] s1, s2, variance;
  logic [63:0] normal;
  logic [31:0] upper, total, shift;
  logic [16:0] found, bit_now, tried;
  logic [5:0] zeros, length;
  logic [6:0] leading;
  logic root, divided;
  logic [32:0] quotient;
  logic [65:0] square;

  assign total = $signed(words_i[0]) < 1 ? 32'd1 : words_i[0];
  always_comb begin
    length = '0;
    for (int i = 0; i < 32; i++) if (total[i]) length = 6'(i + 1);
    leading = 7'd64;
    for (int i = 0; i < 64; i++) if (variance[i]) leading = 7'(63 - i);
  end
  assign tried = found | bit_now;
  assign square = 66'(tried) * 66'(tried) * 66'(upper);

  hyq_divider u_divider (
    .clk_i,
    .rst_ni,
    .start_i(start_i && !root_i),
    .numerator_i((registers_i[RegisterRescaleMultiplier] << length) + 64'(total >> 1)),
    .denominator_i(total),
    .done_o(divided),
    .quotient_o(quotient)
  );

  assign normal = variance << zeros;
  always_ff @(posedge clk_i) begin
    done_o <= 1'b0;
    case (state)
      Idle: if (start_i) begin
        root <= root_i;
        s1 <= {words_i[1], words_i[0]};
        s2 <= {words_i[3], words_i[2]};
        shift <= 32'(length) + registers_i[RegisterRescaleShift][31:0];
        state <= root_i ? Variance : Quotient;
      end
      Variance: begin
        variance <= clamped($signed(registers_i[RegisterCount]) * s2 - s1 * s1
                            + $signed(registers_i[RegisterEpsilon]));
        state <= Leading;
      end
      Leading: begin
        zeros <= {leading[5:1], 1'b0};
        state <= Normal;
      end
      Normal: begin
        upper <= normal[63:32];
        found <= '0;
        bit_now <= 17'h10000;
        state <= Search;
      end
      Search: begin
        if (square <= 66'h4000000000000000) found <= tried;
        bit_now <= bit_now >> 1;
        if (bit_now[0]) begin
          state <= Idle;
          done_o <= 1'b1;
        end
      end
      default: if (divided) begin
        state <= Idle;
        done_o <= 1'b1;
      end
    endcase
    if (!rst_ni) begin
      state <= Idle;
      done_o <= 1'b0;
    end
  end

  // What shows with `done_o`.
  always_comb begin
    words_o = {32'd0, shift, 31'd0, quotient};
    if (root) words_o = {32'd0, 32'd32 - 32'(zeros[5:1]), 32'(found), s1[31:0]};
  end

  function automatic logic signed [63:0] clamped(logic signed [63:0] value);
    clamped = value < 64'sd1 ? 64'sd1 : value;
  endfunction
endmodule
