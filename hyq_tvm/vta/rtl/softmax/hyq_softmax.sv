// The softmax unit: rows of signed logits in, a word of `Lanes` logits a cycle; probabilities or
// codes out, bit by bit those of docs/numerics.md (SM1 to SM9).
//
// A row passes once for its maximum while it fills the buffer, once for its sum and once for its
// results; between the last two comes one division. `in_last_i` ends a row; `in_keep_i` tells which
// lanes of a row's last word hold logits: lane 0 first, at least one; codes of the others mean
// nothing. `scale_i` (LINEAR, POLY2)
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
  // Block memories are slow to answer and want a register behind the one they have.
  localparam int ReadTime = Words > 64 ? 1 : 0;
  localparam int SumTime = ($clog2(Lanes) + 1) / 2;
  localparam int WeightTime = ReadTime + weight_time(Kind) + SumTime;
  localparam int CodeTime = ReadTime + weight_time(Kind) + 2;
  localparam int Time = CodeTime > WeightTime ? CodeTime : WeightTime;

  typedef enum logic [1:0] {Fill, Sum, Divide, Emit} state_e;
  state_e state;
  logic [AddressWidth-1:0] address, last;
  logic [Lanes-1:0] last_keep;
  logic issue, started, divided;
  logic [Time:0] valid, final_word;

  logic [Lanes-1:0][LogitWidth-1:0] buffer [Words];
  logic [Lanes-1:0][LogitWidth-1:0] read, read_first;
  logic [Lanes-1:0] keep, keep_first;
  logic signed [LogitWidth-1:0] maximum, word_maximum;
  logic [Lanes-1:0][WeightBits-1:0] weight;
  logic [SumWidth-1:0] word_sum;
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

  always_ff @(posedge clk_i) begin
    if (in_valid_i && in_ready_o) buffer[address] <= in_logit_i;
    read_first <= buffer[address];
    keep_first <= address == last ? last_keep : '1;
  end

  if (ReadTime > 0) begin : gen_read_held
    always_ff @(posedge clk_i) begin
      read <= read_first;
      keep <= keep_first;
    end
  end else begin : gen_read
    assign read = read_first;
    assign keep = keep_first;
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
      .emit_i(state == Emit),
      .factor_i(factor),
      .bits_i(bits),
      .weight_o(weight[i]),
      .code_o(out_code_o[i])
    );
  end

  hyq_softmax_sum #(
    .Lanes(Lanes),
    .InWidth(WeightBits),
    .OutWidth(SumWidth)
  ) u_sum (
    .clk_i,
    .term_i(weight),
    .sum_o(word_sum)
  );

  hyq_softmax_row #(
    .Result(Result),
    .SumWidth(SumWidth)
  ) u_row (
    .clk_i,
    .rst_ni,
    .clear_i(state == Fill),
    .add_i(state == Sum && valid[WeightTime]),
    .weight_i(word_sum),
    .start_i(state == Divide && !started),
    .done_o(divided),
    .factor_o(factor),
    .bits_o(bits)
  );

  always_ff @(posedge clk_i) begin
    valid <= {valid[Time-1:0], issue};
    final_word <= {final_word[Time-1:0], address == last};
    started <= state == Divide;
    case (state)
      Fill: begin
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
