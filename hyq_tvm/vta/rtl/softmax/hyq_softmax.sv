// The softmax unit: rows of signed logits in, a word of `Lanes` logits a cycle; probabilities or
// codes out, bit by bit those of docs/numerics.md (SM1 to SM9).
//
// A row passes once for its maximum while it fills the buffer, once for its sum and once for its
// results; between the last two comes one division. `in_last_i` ends a row; `in_keep_i` tells which
// lanes of a row's last word hold logits: lane 0 first, at least one. `scale_i` (LINEAR, POLY2)
// must not change while a row is inside.
module hyq_softmax
  import hyq_softmax_pkg::*;
#(
  parameter int Kind = KindLinearPot,
  parameter int Result = ResultUint8,
  parameter int Lanes = 1,
  parameter int Length = 256,
  parameter int LogitWidth = 10,
  localparam int CodeWidth = Result == ResultLog2 ? 4 : 8
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  scale_t scale_i,
  input  logic in_valid_i,
  output logic in_ready_o,
  input  logic in_last_i,
  input  logic [Lanes-1:0] in_keep_i,
  input  logic [Lanes-1:0][LogitWidth-1:0] in_logit_i,
  output logic out_valid_o,
  output logic out_last_o,
  output logic [Lanes-1:0][CodeWidth-1:0] out_code_o
);
  localparam int Words = Length / Lanes;
  localparam int AddressWidth = Words > 1 ? $clog2(Words) : 1;
  localparam int SumWidth = WeightBits + $clog2(Length);
  localparam int LengthWidth = $clog2(SumWidth + 2);
  // From the cycle after a word's address to the sum of its weights, and to its codes.
  localparam int WeightTime = latency(Kind, 1'b0) + 3;
  localparam int CodeTime = WeightTime + 2;

  typedef enum logic [1:0] {Fill, Sum, Divide, Emit} state_e;
  state_e state;
  logic [AddressWidth-1:0] address, last;
  logic [Lanes-1:0] last_keep;
  logic issue, started, divided;
  logic [CodeTime:0] valid, final_word;

  logic [Lanes-1:0][LogitWidth-1:0] buffer [Words];
  logic [Lanes-1:0][LogitWidth-1:0] read, read_first;
  logic [Lanes-1:0] keep, keep_first;
  logic signed [LogitWidth-1:0] maximum, word_maximum;
  logic [Lanes-1:0][WeightBits-1:0] weight;
  logic [WeightBits+$clog2(Lanes)-1:0] word_sum, word_sum_held;
  logic [SumWidth-1:0] sum;
  logic [15:0] factor;
  logic [LengthWidth-1:0] bits;

  assign in_ready_o = state == Fill;
  assign out_valid_o = valid[CodeTime] && state == Emit;
  assign out_last_o = final_word[CodeTime];

  always_comb begin
    word_maximum = {1'b1, {(LogitWidth - 1) {1'b0}}};
    for (int i = 0; i < Lanes; i++) begin
      if ((in_keep_i[i] || i == 0) && $signed(in_logit_i[i]) > word_maximum) begin
        word_maximum = in_logit_i[i];
      end
    end
  end

  // Two registers behind the buffer: block memories have one of their own.
  always_ff @(posedge clk_i) begin
    if (in_valid_i && in_ready_o) buffer[address] <= in_logit_i;
    read_first <= buffer[address];
    read <= read_first;
    keep_first <= address == last ? last_keep : '1;
    keep <= keep_first;
  end

  for (genvar i = 0; i < Lanes; i++) begin : gen_lane
    hyq_softmax_lane #(
      .Kind(Kind),
      .Result(Result),
      .LogitWidth(LogitWidth),
      .SumWidth(SumWidth)
    ) u_lane (
      .clk_i,
      .logit_i(read[i]),
      .keep_i(Lanes == 1 || i == 0 || keep[i]),
      .maximum_i(maximum),
      .scale_i,
      .factor_i(factor),
      .bits_i(bits),
      .weight_o(weight[i]),
      .code_o(out_code_o[i])
    );
  end

  always_comb begin
    word_sum = '0;
    for (int i = 0; i < Lanes; i++) word_sum = word_sum + ($bits(word_sum))'(weight[i]);
  end

  hyq_softmax_row #(
    .Result(Result),
    .SumWidth(SumWidth)
  ) u_row (
    .clk_i,
    .rst_ni,
    .start_i(state == Divide && !started),
    .sum_i(sum),
    .done_o(divided),
    .factor_o(factor),
    .bits_o(bits)
  );

  always_ff @(posedge clk_i) begin
    valid <= {valid[CodeTime-1:0], issue};
    final_word <= {final_word[CodeTime-1:0], address == last};
    word_sum_held <= word_sum;
    started <= state == Divide;
    case (state)
      Fill: begin
        sum <= '0;
        if (in_valid_i) begin
          if (address == '0 || word_maximum > maximum) maximum <= word_maximum;
          address <= address + 1'b1;
          last <= address;
          last_keep <= in_keep_i;
          if (in_last_i) begin
            state <= Sum;
            issue <= 1'b1;
            address <= '0;
          end
        end
      end
      Divide: begin
        if (divided) begin
          state <= Emit;
          issue <= 1'b1;
        end
      end
      default: begin
        if (issue) address <= address + 1'b1;
        if (issue && address == last) issue <= 1'b0;
        if (state == Sum) begin
          if (valid[WeightTime]) sum <= sum + SumWidth'(word_sum_held);
          if (valid[WeightTime] && final_word[WeightTime]) begin
            state <= Divide;
            address <= '0;
          end
        end else if (out_valid_o && out_last_o) begin
          state <= Fill;
          address <= '0;
        end
      end
    endcase
    if (!rst_ni) begin
      state <= Fill;
      address <= '0;
      issue <= 1'b0;
      valid <= '0;
    end
  end
endmodule
