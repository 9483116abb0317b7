// The sum L of a row, and what it is turned into once a row, bit by bit.
//
// Uint8: m = rounding_divide(255 << (h + 7), L) and h, the bits of L: L is moved until its first
// bit is set, then a division gives 17 bits of the quotient, the last one for rounding.
// Log2: limit = L + L div 3 and its bits: the division by 3 has a rest of two bits.
module hyq_softmax_row
  import hyq_softmax_pkg::*;
#(
  parameter int Result = ResultUint8,
  parameter int SumWidth = 23,
  localparam int LengthWidth = $clog2(SumWidth + 2)
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic clear_i,
  input  logic add_i,
  input  logic [SumWidth-1:0] weight_i,
  input  logic start_i,
  output logic done_o,
  output logic [15:0] factor_o,
  output logic [LengthWidth-1:0] bits_o
);
  typedef enum logic [1:0] {Idle, Third, Move, Divide} state_e;
  state_e state;
  logic [4:0] count;
  logic [SumWidth-1:0] sum, sum_next;

  assign sum_next = clear_i ? '0 : sum + weight_i;

  if (Result == ResultUint8) begin : gen_uint8
    localparam int Start = 255 << (SumWidth - 9);
    logic [SumWidth-1:0] rest;
    logic [SumWidth:0] reduced;
    logic [16:0] quotient;

    assign reduced = {rest, 1'b0} - {1'b0, sum};
    assign factor_o = quotient[16:1];
    always_ff @(posedge clk_i) begin
      done_o <= 1'b0;
      case (state)
        Idle: begin
          if (clear_i || add_i) sum <= sum_next;
          if (start_i) begin
            bits_o <= LengthWidth'(SumWidth);
            rest <= SumWidth'(Start);
            count <= 5'd17;
            state <= Move;
          end
        end
        Move: begin
          if (sum[SumWidth-1]) state <= Divide;
          else begin
            sum <= sum << 1;
            bits_o <= bits_o - 1'b1;
          end
        end
        default: begin
          // The last step rounds: it adds the 18th bit to the 17 before.
          quotient <= count == '0 ? quotient + 1'b1 : {quotient[15:0], !reduced[SumWidth]};
          rest <= reduced[SumWidth] ? {rest[SumWidth-2:0], 1'b0} : reduced[SumWidth-1:0];
          count <= count - 1'b1;
          if (count == '0) begin
            state <= Idle;
            done_o <= 1'b1;
          end
        end
      endcase
      if (!rst_ni) state <= Idle;
    end
  end else begin : gen_log2
    logic [SumWidth:0] limit;
    logic [SumWidth-1:0] third;
    logic [1:0] rest;
    logic [2:0] next;

    assign next = {rest, sum[SumWidth-1]};
    assign factor_o = limit[SumWidth -: 16];
    always_ff @(posedge clk_i) begin
      done_o <= 1'b0;
      case (state)
        Idle: begin
          if (clear_i || add_i) sum <= sum_next;
          if (start_i) begin
            rest <= '0;
            bits_o <= LengthWidth'(SumWidth + 1);
            count <= 5'(SumWidth);
            state <= Third;
          end
        end
        Third: begin
          // The sum goes round once and is itself again at the end.
          sum <= {sum[SumWidth-2:0], sum[SumWidth-1]};
          third <= {third[SumWidth-2:0], next >= 3'd3};
          rest <= next >= 3'd3 ? 2'(next - 3'd3) : next[1:0];
          count <= count - 1'b1;
          limit <= {1'b0, sum} + {1'b0, third};
          if (count == '0) begin
            sum <= sum;
            third <= third;
            state <= Move;
          end
        end
        default: begin
          if (limit[SumWidth]) begin
            state <= Idle;
            done_o <= 1'b1;
          end else begin
            limit <= limit << 1;
            bits_o <= bits_o - 1'b1;
          end
        end
      endcase
      if (!rst_ni) state <= Idle;
    end
  end
endmodule
