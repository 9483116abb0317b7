// The weight of one logit, in every kind of SOFTMAX, six cycles after the logit.
//
// 1 difference, 2 onto the step of the line or half-way onto the grid, 3 the grid, 4 octave and
// rest, 5 the table answers, 6 the mantissa is shifted.
module hyq_softmax_weight
  import hyq_vta_pkg::*;
#(
  parameter int TblBits = 13
) (
  input  logic clk_i,
  input  logic [2:0] kind_i,
  input  logic [RegisterConstant:0][63:0] registers_i,
  // Largest of the differences on the step and the shift of the mantissa's first bit to its place.
  input  logic [31:0] limit_i,
  input  logic signed [6:0] spare_i,
  input  logic signed [31:0] logit_i,
  input  logic signed [31:0] maximum_i,
  output logic [TblBits-1:0] tbl_address_o,
  // Two neighbouring words.
  input  logic [1:0][15:0] tbl_i,
  output logic [31:0] weight_o
);
  localparam logic [31:0] Largest = 32'h7fffffff;
  localparam int OctaveBits = 5;

  logic grid, tabulated, requantized;
  logic signed [32:0] gap;
  logic [31:0] diff, step, placed, rest, rest_held;
  logic [OctaveBits-1:0] octave, octave_next, octave_held;
  logic [4:0] excluded;
  logic [31:0] rest_next;
  logic [63:0] raised;
  logic signed [63:0] z, z_next, shift_now;
  logic [31:0] fraction_mask;
  logic signed [63:0] logit_shift, offset;

  assign grid = kind_i inside {ExponentialLinearPot, ExponentialTable};
  assign tabulated = kind_i == ExponentialWeights;
  assign requantized = registers_i[RegisterGridMultiplier] != '0;
  assign gap = 33'(maximum_i) - 33'(logit_i);
  assign logit_shift = registers_i[RegisterLogitShift];
  assign offset = registers_i[RegisterOffset];
  assign fraction_mask = (32'd1 << registers_i[RegisterFractionBits][3:0]) - 32'd1;

  // 2
  logic [31:0] step_next;
  always_comb begin
    step_next = diff;
    raised = '0;
    if (grid && requantized) begin
      step_next = 32'(half_shift(64'(diff), registers_i[RegisterGridPreShift][5:0]));
      if (step_next > 32'd32767) step_next = 32'd32767;
    end else if (!grid && !tabulated) begin
      if (logit_shift < 0) raised = half_shift(64'(diff), 6'(-logit_shift));
      else raised = 64'(diff) << logit_shift[5:0];
      step_next = raised > 64'(limit_i) ? limit_i : raised[31:0];
    end
  end

  // 3
  logic [63:0] product;
  logic [31:0] placed_next;
  always_comb begin
    product = half_shift(64'(step) * registers_i[RegisterGridMultiplier],
                         registers_i[RegisterGridShift][5:0]);
    placed_next = step;
    if (grid) begin
      if (requantized) placed_next = product > 64'(limit_i) ? limit_i : product[31:0];
      else if (step > limit_i) placed_next = limit_i;
    end
    if (tabulated && 64'(step) >= registers_i[RegisterTableSize]) begin
      placed_next = 32'(registers_i[RegisterTableSize] - 64'd1);
    end
  end

  // 4: a shift and a mask, or five conditional subtractions of the period.
  always_comb begin
    octave_next = OctaveBits'(placed >> registers_i[RegisterFractionBits][3:0]);
    rest_next = placed & fraction_mask;
    if (!grid) begin
      octave_next = '0;
      rest_next = placed;
      for (int i = OctaveBits - 1; i >= 0; i--) begin
        if (rest_next >= registers_i[RegisterPeriod][31:0] << i) begin
          rest_next = rest_next - (registers_i[RegisterPeriod][31:0] << i);
          octave_next[i] = 1'b1;
        end
      end
    end
    if (tabulated) rest_next = placed;
  end
  assign tbl_address_o = TblBits'(registers_i[RegisterTableBase])
      + TblBits'(tabulated ? rest : rest << 1);

  // 5, 6
  always_comb begin
    z_next = offset - 64'(rest_held);
    if (kind_i == ExponentialPoly2) begin
      z_next = $signed(registers_i[RegisterConstant]) - 64'(rest_held) * z_next;
    end
    z_next = spare_i > 0 ? z_next << 6'(spare_i) : z_next;
    if (z_next < 0) z_next = '0;
    if (kind_i == ExponentialTable) z_next = 64'({tbl_i[1], tbl_i[0]});
    if (tabulated) z_next = excluded[4] ? '0 : 64'(tbl_i[0]);
  end
  always_comb begin
    shift_now = 64'(octave_held);
    if (!grid && spare_i < 0) shift_now = shift_now - 64'(spare_i);
    if (tabulated) shift_now = '0;
    z = z_next >> shift_now[5:0];
  end

  always_ff @(posedge clk_i) begin
    diff <= gap > 33'(Largest) ? Largest : gap[31:0];
    excluded <= {excluded[3:0], logit_i <= -32'sd1073741824};
    step <= step_next;
    placed <= placed_next;
    octave <= octave_next;
    rest <= rest_next;
    octave_held <= octave;
    rest_held <= rest;
    weight_o <= z[31:0];
  end

  function automatic logic [63:0] half_shift(logic [63:0] value, logic [5:0] shift);
    half_shift = (value + ((64'd1 << shift) >> 1)) >> shift;
  endfunction
endmodule
