// The vector unit: a step a cycle, results three cycles later. A step that reads an entry that an
// earlier one has not written yet waits; MOMENTS, whose steps add to one entry after the other, gets
// the sums of steps before it passed on.
module hyq_vector
  import hyq_vta_pkg::*;
#(
  parameter int LogBlock = 4,
  parameter int AccBits = 11,
  parameter int TblBits = 13,
  parameter int Dividers = 8,
  localparam int Block = 1 << LogBlock
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  vector_t insn_i,
  input  logic [RegisterConstant:0][63:0] registers_i,
  input  logic valid_i,
  output logic ready_o,
  input  logic [2:0][31:0] index_i,
  // Entries dst, src and third of the accumulators and third of the parameters, read in the cycle
  // of `valid_i`, here one later.
  input  logic [Block-1:0][31:0] a_i,
  input  logic [Block-1:0][31:0] b_i,
  input  logic [Block-1:0][31:0] row_i,
  input  logic [Block-1:0][127:0] parameter_i,
  output logic [Block-1:0][TblBits-1:0] tbl_address_o,
  input  logic [Block-1:0][15:0] tbl_i,
  output logic write_o,
  output logic [31:0] write_entry_o,
  output logic [Block-1:0][31:0] write_data_o,
  output logic busy_o
);
  logic binary, moments, uses_row, rounds, pointed, clipped, looks_up, iterative, hazard;
  logic [2:0] valid;
  logic [2:0][31:0] entry;
  logic pool_ready, iterated;
  logic [Dividers-1:0] held;
  logic [Dividers-1:0][31:0] held_entry;
  logic [31:0] iterated_entry;
  logic [3:0][31:0] words;

  always_comb begin
    binary = insn_i.op inside {FunctionMin, FunctionMax, FunctionAdd, FunctionSub, FunctionMul,
                               FunctionShr, FunctionScaleAdd, FunctionRowSum, FunctionRowMax,
                               FunctionMoments, FunctionRescaleWide};
    moments = insn_i.op == FunctionMoments;
    uses_row = insn_i.op inside {FunctionNorm, FunctionRescale, FunctionRescaleWide};
    rounds = uses_row || insn_i.op == FunctionShr;
    pointed = insn_i.op inside {FunctionReq, FunctionReqLookup, FunctionScaleAdd, FunctionRescale,
                                FunctionRescaleWide};
    looks_up = insn_i.op inside {FunctionLookup, FunctionReqLookup};
    iterative = insn_i.op inside {FunctionRoot, FunctionReciprocal};
    clipped = !(insn_i.op inside {FunctionLookup, FunctionMoments});
  end

  always_comb begin
    hazard = 1'b0;
    for (int i = 0; i < 3; i++) begin
      if (valid[i] && insn_i.target == TargetAcc
          && ((binary && !moments && entry[i] == index_i[0])
              || (insn_i.operand == OperandAcc && entry[i] == index_i[1])
              || (uses_row && entry[i] == index_i[2]))) hazard = 1'b1;
    end
    for (int i = 0; i < Dividers; i++) begin
      if (held[i] && held_entry[i] == index_i[1]) hazard = 1'b1;
    end
  end
  assign ready_o = !hazard && !(iterative && !pool_ready);
  assign busy_o = valid != '0 || held != '0;

  // 1: operands.
  logic [Block-1:0][31:0] b;
  logic signed [63:0] row_sum, row_squares;
  logic signed [31:0] row_maximum;
  logic [Block-1:0][63:0] value_next, value;
  logic [Block-1:0][31:0] written;
  logic [Block-1:0][5:0] shift_next, shift;
  logic signed [63:0] moment_sum, moment_squares;
  logic [3:0][31:0] sums, written_before;
  logic [31:0] entry_before;
  logic valid_before;

  always_comb begin
    for (int i = 0; i < Block; i++) begin
      case (insn_i.operand)
        OperandAcc: b[i] = b_i[i];
        OperandImm: b[i] = registers_i[RegisterImmediate][31:0];
        default: b[i] = parameter_i[i][63:32];
      endcase
    end
    row_sum = '0;
    row_squares = '0;
    row_maximum = 32'sh80000000;
    for (int i = 0; i < Block; i++) begin
      if (64'(i) < registers_i[RegisterLanes]) begin
        row_sum = row_sum + 64'($signed(b_i[i]));
        row_squares = row_squares + 64'($signed(b_i[i])) * 64'($signed(b_i[i]));
        if ($signed(b_i[i]) > row_maximum) row_maximum = b_i[i];
      end
    end
    sums = a_i[3:0];
    if (valid_before && entry_before == entry[0]) sums = written_before;
    if (valid[2] && entry[2] == entry[0]) sums = written[3:0];
    if (valid[1] && entry[1] == entry[0]) begin
      sums = {value[3][31:0], value[2][31:0], value[1][31:0], value[0][31:0]};
    end
    moment_sum = $signed({sums[1], sums[0]}) + row_sum;
    moment_squares = $signed({sums[3], sums[2]}) + row_squares;
  end

  for (genvar i = 0; i < Block; i++) begin : gen_lane
    hyq_vector_lane u_lane (
      .op_i(insn_i.op),
      .a_i(a_i[i]),
      .b_i(b[i]),
      .parameter_i(parameter_i[i]),
      .row_i(row_i[3:0]),
      .row_sum_i(row_sum),
      .row_maximum_i(row_maximum),
      .registers_i,
      .value_o(value_next[i]),
      .shift_o(shift_next[i])
    );
  end

  hyq_statistics_pool #(
    .Units(Dividers)
  ) u_pool (
    .clk_i,
    .rst_ni,
    .ready_o(pool_ready),
    .take_i(valid_i && ready_o && iterative),
    .entry_i(index_i[0]),
    .start_i(valid[0] && iterative),
    .root_i(insn_i.op == FunctionRoot),
    .words_i(b_i[3:0]),
    .registers_i,
    .held_o(held),
    .entry_o(held_entry),
    .write_o(iterated),
    .write_entry_o(iterated_entry),
    .words_o(words)
  );

  // 2: the shift, the clip, the place in the table.
  logic [Block-1:0][63:0] result, place;
  always_comb begin
    for (int i = 0; i < Block; i++) begin
      result[i] = $signed(value[i] + (rounds ? (64'd1 << shift[i]) >> 1 : 64'd0)) >>> shift[i];
      if (pointed) result[i] = result[i] + registers_i[RegisterZeroPoint];
      if (clipped) begin
        if ($signed(result[i]) < $signed(registers_i[RegisterLow])) begin
          result[i] = registers_i[RegisterLow];
        end
        if ($signed(result[i]) > $signed(registers_i[RegisterHigh])) begin
          result[i] = registers_i[RegisterHigh];
        end
      end
      place[i] = result[i] - registers_i[RegisterTableLow];
      if ($signed(place[i]) < 0) place[i] = '0;
      if (place[i] >= registers_i[RegisterTableSize]) begin
        place[i] = registers_i[RegisterTableSize] - 64'd1;
      end
      tbl_address_o[i] = TblBits'(place[i] + registers_i[RegisterTableBase]);
    end
  end

  always_ff @(posedge clk_i) begin
    valid <= {valid[1], valid[0] && !iterative, valid_i && ready_o};
    entry <= {entry[1], entry[0], index_i[0]};
    if (valid[0]) begin
      value <= value_next;
      shift <= shift_next;
      if (moments) begin
        value <= '0;
        value[0] <= 64'(moment_sum[31:0]);
        value[1] <= 64'(moment_sum[63:32]);
        value[2] <= 64'(moment_squares[31:0]);
        value[3] <= 64'(moment_squares[63:32]);
      end
    end
    if (valid[1]) begin
      for (int i = 0; i < Block; i++) written[i] <= result[i][31:0];
    end
    valid_before <= valid[2];
    entry_before <= entry[2];
    written_before <= written[3:0];
    if (!rst_ni) valid <= '0;
  end

  // 3: the table has answered.
  assign write_o = valid[2] || iterated;
  assign write_entry_o = iterative ? iterated_entry : entry[2];
  always_comb begin
    for (int i = 0; i < Block; i++) begin
      write_data_o[i] = looks_up ? 32'($signed(tbl_i[i])) : written[i];
      if (iterative) write_data_o[i] = i < 4 ? words[i%4] : '0;
    end
  end
endmodule
