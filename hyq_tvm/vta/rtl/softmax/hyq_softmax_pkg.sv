// Constants that the parts of the softmax unit share.
//
// The unit handles rows of up to 256 logits, for which a weight has 15 bits (clause SM3 of
// docs/numerics.md). Kinds and results are integers because synthesis tools override parameters
// with integers only.
package hyq_softmax_pkg;
  localparam int KindPoly2 = 0;
  localparam int KindLinear = 1;
  localparam int KindLinearPot = 2;
  localparam int KindTable = 3;

  localparam int ResultUint8 = 0;
  localparam int ResultLog2 = 1;

  localparam int WeightBits = 15;
  localparam int FractionBits = 4;
  localparam int OctaveBits = 4;
  localparam int ShiftBits = 3;
  localparam int PeriodBits = 11;
  localparam int OffsetBits = 12;
  localparam int ConstantBits = 18;
  localparam int NarrowBits = 2;

  // What depends on the scale of the logits (SM5, SM6); the grid kinds need none of it.
  typedef struct packed {
    logic [2:0] logit_shift;
    logic [10:0] period;
    logic [11:0] offset;
    logic [17:0] constant;
    logic [1:0] narrow;
  } scale_t;

  // SM4: floor((2^15 - 1) * 2^(-f / 16) + 1/2).
  function automatic logic [14:0] mantissa(logic [3:0] f);
    case (f)
      4'd0: mantissa = 15'd32767;
      4'd1: mantissa = 15'd31378;
      4'd2: mantissa = 15'd30047;
      4'd3: mantissa = 15'd28774;
      4'd4: mantissa = 15'd27554;
      4'd5: mantissa = 15'd26385;
      4'd6: mantissa = 15'd25267;
      4'd7: mantissa = 15'd24196;
      4'd8: mantissa = 15'd23170;
      4'd9: mantissa = 15'd22187;
      4'd10: mantissa = 15'd21247;
      4'd11: mantissa = 15'd20346;
      4'd12: mantissa = 15'd19483;
      4'd13: mantissa = 15'd18657;
      4'd14: mantissa = 15'd17866;
      default: mantissa = 15'd17109;
    endcase
  endfunction

  // How wide a kind's mantissa is, and in how many cycles its weight comes.
  function automatic int mantissa_bits(int kind);
    mantissa_bits = kind == KindLinearPot ? FractionBits + 1 : WeightBits;
  endfunction

  function automatic int latency(int kind, bit fixed_scale);
    case (kind)
      KindPoly2: latency = fixed_scale ? 5 : 9;
      KindLinear: latency = fixed_scale ? 3 : 7;
      default: latency = 2;
    endcase
  endfunction

  // The same from a logit on: differences of the stepped kinds get a register.
  function automatic int weight_time(int kind);
    weight_time = latency(kind, 1'b0) + int'(kind == KindPoly2 || kind == KindLinear);
  endfunction
endpackage
