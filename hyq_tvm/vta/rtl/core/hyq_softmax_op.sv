// SOFTMAX: rows of accumulators, `Lanes` logits a cycle. A row passes once for its maximum, once
// for its sum, once more for probabilities with a division before.
//
// WEIGHT_WIDE writes two entries for each, so its words come every other cycle. WEIGHT into the
// input buffer streams: a port of its own reads the next row for its maximum while this row gets
// its weights. Two cycles between rows leave the write port free for the sum.
module hyq_softmax_op
  import hyq_vta_pkg::*;
#(
  parameter int LogBlock = 4,
  parameter int Lanes = 16,
  parameter int AccBits = 11,
  parameter int TblBits = 13,
  localparam int Block = 1 << LogBlock
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic start_i,
  input  softmax_t insn_i,
  input  logic [RegisterConstant:0][63:0] registers_i,
  output logic [AccBits-1:0] acc_address_o,
  input  logic [Block-1:0][31:0] acc_i,
  output logic [AccBits-1:0] scan_address_o,
  input  logic [Block-1:0][31:0] scan_i,
  output logic [Lanes-1:0][TblBits-1:0] tbl_address_o,
  input  logic [Lanes-1:0][1:0][15:0] tbl_i,
  output logic write_o,
  output logic write_inp_o,
  output logic [31:0] write_entry_o,
  output logic [Block-1:0][31:0] write_data_o,
  output logic done_o
);
  localparam int WeightTime = 7;
  localparam int ResultTime = WeightTime + 2;

  typedef enum logic [2:0] {
    Idle, Maximum, Sum, Start, Divide, Emit, Total, Stream
  } state_e;
  state_e state;
  logic probabilities, wide, emitting, issue, word_last, settled, pause, divide_start, divided, divided_held;
  logic second_half, streams, stream_total, put_total, row_done, begins;
  logic scanning, scan_last, scan_valid, scan_final, found;
  logic [10:0] scan_src;
  logic [11:0] row, scan_row;
  logic [10:0] src, dst;
  logic [12:0] at, scan_at, scan_place;
  logic [ResultTime:0] valid, final_word;
  logic [ResultTime:0][12:0] place;
  logic signed [31:0] maximum, scan_maximum, next_maximum;
  logic [31:0] total, word_sum, limit, row_total;
  logic signed [6:0] spare;
  logic [5:0] length, limit_length;
  logic [32:0] quotient, factor;
  logic [63:0] numerator;
  logic [Lanes-1:0][31:0] logit, weight, value;
  logic [Lanes-1:0] weighs;
  logic [Block-1:0][31:0] entry, entry_next, low_entry;
  logic [12:0] out_place, out_entry;
  logic out_valid, out_final, second;
  logic [31:0] second_entry;

  assign probabilities = insn_i.result inside {ResultUint8, ResultLog2, ResultGrid};
  assign wide = insn_i.result == ResultWeightWide;
  assign streams = insn_i.result == ResultWeight && insn_i.target == TargetInp;
  assign issue = state inside {Sum, Emit, Stream} && !settled && !pause;
  assign word_last = 32'(at) + Lanes >= 32'(insn_i.length);
  assign acc_address_o = AccBits'(32'(src) + 32'(at >> LogBlock));
  assign row_total = total == '0 ? 32'd1 : total;

  // The scan for a row's maximum. Its weights begin once it is found.
  assign scan_last = 32'(scan_at) + Lanes >= 32'(insn_i.length);
  assign scan_address_o = AccBits'(32'(scan_src) + 32'(scan_at >> LogBlock));
  assign begins = found && (state == Maximum || (state == Stream && settled));
  logic signed [31:0] scanned;
  always_comb begin
    next_maximum = scan_maximum;
    for (int i = 0; i < Lanes; i++) begin
      scanned = scan_i[scan_place[LogBlock-1:0] + LogBlock'(i)];
      if (32'(scan_place) + 32'(i) < 32'(insn_i.length) && scanned > next_maximum) begin
        next_maximum = scanned;
      end
    end
  end

  // The logits of the word that was read.
  logic [LogBlock-1:0] group;
  assign group = place[0][LogBlock-1:0];
  always_comb begin
    for (int i = 0; i < Lanes; i++) logit[i] = acc_i[group + LogBlock'(i)];
  end

  // Constants of the instruction.
  always_comb begin
    logic [63:0] top;
    top = insn_i.exponential == ExponentialPoly2 ? registers_i[RegisterConstant]
        : registers_i[RegisterOffset];
    spare = 7'(registers_i[RegisterWeightBits]);
    for (int i = 0; i < 20; i++) begin
      if (top[i]) spare = 7'(registers_i[RegisterWeightBits]) - 7'(i + 1);
    end
    limit = 32'((registers_i[RegisterWeightBits] + 64'd1) * registers_i[RegisterPeriod]) - 32'd1;
    if (insn_i.exponential inside {ExponentialLinearPot, ExponentialTable}) begin
      limit = 32'((registers_i[RegisterWeightBits] + 64'd1)
                  << registers_i[RegisterFractionBits][3:0]) - 32'd1;
    end
  end

  for (genvar i = 0; i < Lanes; i++) begin : gen_lane
    hyq_softmax_weight #(
      .TblBits(TblBits)
    ) u_weight (
      .clk_i,
      .kind_i(insn_i.exponential),
      .registers_i,
      .limit_i(limit),
      .spare_i(spare),
      .logit_i(logit[i]),
      .maximum_i(maximum),
      .tbl_address_o(tbl_address_o[i]),
      .tbl_i(tbl_i[i]),
      .weight_o(weight[i])
    );
    assign weighs[i] = 32'(place[WeightTime-1]) + 32'(i) < 32'(insn_i.length);
    hyq_softmax_result u_result (
      .clk_i,
      .result_i(insn_i.result),
      .registers_i,
      .length_i(length),
      .factor_i(factor),
      .limit_length_i(limit_length),
      .weight_i(weight[i] & {32{weighs[i]}}),
      .value_o(value[i])
    );
  end

  always_comb begin
    word_sum = '0;
    for (int i = 0; i < Lanes; i++) word_sum = word_sum + (weight[i] & {32{weighs[i]}});
  end

  // One division a row: by the sum, or (LOG2) of the sum by 3.
  always_comb begin
    length = '0;
    limit_length = '0;
    for (int i = 0; i < 32; i++) if (row_total[i]) length = 6'(i + 1);
    for (int i = 0; i < 33; i++) if (factor[i]) limit_length = 6'(i + 1);
    numerator = (registers_i[RegisterRescaleMultiplier] << length) + 64'(row_total >> 1);
    if (insn_i.result == ResultUint8) begin
      numerator = (64'd255 << (length + 6'd22 - 6'(registers_i[RegisterWeightBits])))
          + 64'(row_total >> 1);
    end
    if (insn_i.result == ResultLog2) numerator = 64'(row_total);
  end
  assign divide_start = state == Start;
  hyq_divider u_divider (
    .clk_i,
    .rst_ni,
    .start_i(divide_start),
    .numerator_i(numerator),
    .denominator_i(insn_i.result == ResultLog2 ? 32'd3 : row_total),
    .done_o(divided),
    .quotient_o(quotient)
  );

  // Words of results become entries.
  assign emitting = state inside {Emit, Stream} || (state == Sum && !probabilities);
  assign out_valid = valid[ResultTime-1] && emitting;
  assign out_place = place[ResultTime-1];
  assign out_final = final_word[ResultTime-1];
  assign out_entry = out_place >> LogBlock;
  always_comb begin
    entry_next = out_place[LogBlock-1:0] == '0 ? '0 : entry;
    low_entry = '0;
    for (int i = 0; i < Lanes; i++) begin
      entry_next[out_place[LogBlock-1:0] + LogBlock'(i)] =
          32'(out_place) + 32'(i) < 32'(insn_i.length) ? value[i] : '0;
    end
  end

  logic complete;
  assign complete = out_valid
      && (out_final || (32'(out_place[LogBlock-1:0]) + Lanes == 32'(Block)));
  assign stream_total = state == Stream && valid[ResultTime] && final_word[ResultTime];
  assign put_total = state == Total || stream_total;
  assign write_inp_o = insn_i.target == TargetInp && !put_total;
  assign write_o = complete || second || put_total;
  always_comb begin
    write_entry_o = 32'(dst) + 32'(out_entry);
    for (int i = 0; i < Block; i++) write_data_o[i] = wide ? entry_next[i] >> 8 : entry_next[i];
    if (second) begin
      write_entry_o = second_entry + 32'(insn_i.plane);
      for (int i = 0; i < Block; i++) write_data_o[i] = 32'(entry[i][7:0]);
    end
    if (put_total) begin
      write_entry_o = 32'(insn_i.total) + 32'(row);
      write_data_o = '0;
      write_data_o[0] = total;
    end
  end

  logic pass_done;
  always_comb begin
    case (state)
      Sum: pass_done = probabilities ? valid[WeightTime-1] && final_word[WeightTime-1]
          : out_valid && out_final && !wide || second && second_half;
      Emit: pass_done = out_valid && out_final;
      default: pass_done = 1'b0;
    endcase
  end
  assign row_done = put_total || (state == Emit && pass_done);
  assign done_o = row_done && row + 12'd1 == insn_i.rows;

  always_ff @(posedge clk_i) begin
    valid <= {valid[ResultTime-1:0], issue};
    final_word <= {final_word[ResultTime-1:0], word_last};
    place <= {place[ResultTime-1:0], at};
    second <= complete && wide;
    second_half <= out_final;
    second_entry <= write_entry_o;
    if (out_valid) entry <= entry_next;
    pause <= issue && wide && state == Sum;
    if (issue) begin
      at <= at + 13'(Lanes);
      if (word_last) settled <= 1'b1;
    end
    if (state inside {Sum, Stream} && valid[WeightTime-1]) begin
      total <= (place[WeightTime-1] == '0 ? '0 : total) + word_sum;
    end
    if (divided_held) factor <= insn_i.result == ResultLog2 ? 33'(row_total) + quotient : quotient;

    case (state)
      Maximum: if (found) state <= Sum;
      Sum: if (pass_done) state <= probabilities ? Start : Total;
      Start: state <= Divide;
      Divide: if (divided_held) state <= Emit;
      Emit: if (pass_done) state <= Maximum;
      Total: state <= Maximum;
      default: ;
    endcase
    divided_held <= divided;
    if (pass_done) valid <= '0;
    if (begins || (state == Divide && divided_held)) begin
      at <= '0;
      settled <= 1'b0;
    end
    if (row_done) begin
      row <= row + 1'b1;
      dst <= dst + insn_i.dst_step;
    end

    scan_valid <= scanning;
    scan_final <= scan_last;
    scan_place <= scan_at;
    if (scanning) begin
      scan_at <= scan_at + 13'(Lanes);
      if (scan_last) scanning <= 1'b0;
    end
    if (scan_valid) scan_maximum <= next_maximum;
    if (scan_valid && scan_final) found <= 1'b1;
    if (begins) begin
      found <= 1'b0;
      src <= scan_src;
      maximum <= scan_maximum;
    end
    if (start_i || (state == Stream ? begins : row_done)) begin
      scanning <= start_i || scan_row + 12'd1 != insn_i.rows;
      scan_at <= '0;
      scan_maximum <= 32'sh80000000;
      scan_row <= scan_row + 12'd1;
      scan_src <= scan_src + insn_i.src_step;
    end

    if (done_o) state <= Idle;
    if (start_i) begin
      state <= streams ? Stream : Maximum;
      row <= '0;
      dst <= insn_i.dst;
      settled <= 1'b1;
      scan_row <= '0;
      scan_src <= insn_i.src;
      found <= 1'b0;
    end
    if (!rst_ni) begin
      state <= Idle;
      valid <= '0;
      second <= 1'b0;
      scanning <= 1'b0;
      found <= 1'b0;
    end
  end
endmodule
