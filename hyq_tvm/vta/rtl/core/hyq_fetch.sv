// Reads the program and hands its instructions to the units in order; a full queue holds it up.
// An opcode that does not exist stops it for good.
module hyq_fetch
  import hyq_vta_pkg::*;
#(
  parameter int BusBytes = 16
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic start_i,
  input  logic [31:0] address_i,
  input  logic [31:0] count_i,
  output logic error_o,
  // Instruction port: one beat an address.
  output logic ar_valid_o,
  input  logic ar_ready_i,
  output logic [31:0] ar_address_o,
  input  logic r_valid_i,
  output logic r_ready_o,
  input  logic [BusBytes*8-1:0] r_data_i,
  // Load, compute, store.
  output logic [2:0] push_o,
  input  logic [2:0] full_i,
  output logic [InsnWidth-1:0] insn_o
);
  localparam int BusWidth = BusBytes * 8;
  localparam int Beats = InsnWidth > BusWidth ? InsnWidth / BusWidth : 1;
  localparam int Packed = BusWidth > InsnWidth ? BusWidth / InsnWidth : 1;

  logic [31:0] requested, needed, left;
  logic [InsnWidth-1:0] insn, assembled;
  logic [7:0] beat, part;
  logic complete, taken;
  logic [2:0] target;

  // Programs begin at a multiple of the bus.
  assign needed = Packed > 1 ? (count_i + 32'(Packed - 1)) / 32'(Packed) : count_i * 32'(Beats);
  assign ar_valid_o = requested != needed;
  assign ar_address_o = address_i + requested * 32'(BusBytes);

  if (Packed > 1) begin : gen_packed
    assign insn = r_data_i[part*InsnWidth +: InsnWidth];
    assign complete = r_valid_i && left != '0;
    assign r_ready_o = taken && (part == 8'(Packed - 1) || left == 32'd1);
  end else if (Beats > 1) begin : gen_beats
    assign insn = {r_data_i, assembled[InsnWidth-1:BusWidth]};
    assign complete = r_valid_i && beat == 8'(Beats - 1);
    assign r_ready_o = taken || (r_valid_i && !complete);
  end else begin : gen_one
    assign insn = r_data_i;
    assign complete = r_valid_i;
    assign r_ready_o = taken;
  end

  always_comb begin
    target = '0;
    case (insn[2:0])
      OpLoad: target[0] = 1'b1;
      OpStore: target[2] = 1'b1;
      OpGemm, OpFinish, OpVector, OpSoftmax: target[1] = 1'b1;
      OpSet: begin
        case (insn[11:7])
          RegisterLoadYStride, RegisterLoadXStride, RegisterLoadPad: target[0] = 1'b1;
          RegisterStoreYStride, RegisterStoreXStride: target[2] = 1'b1;
          default: target[1] = 1'b1;
        endcase
      end
      default: ;
    endcase
  end
  assign taken = complete && !error_o && (target & ~full_i) != '0;
  assign push_o = taken ? target : '0;
  assign insn_o = insn;

  always_ff @(posedge clk_i) begin
    if (ar_valid_o && ar_ready_i) requested <= requested + 1'b1;
    if (r_valid_i && r_ready_o) begin
      assembled <= insn;
      beat <= complete ? '0 : beat + 1'b1;
    end
    if (taken) begin
      left <= left - 1'b1;
      part <= part == 8'(Packed - 1) ? '0 : part + 1'b1;
    end
    if (complete && target == '0) error_o <= 1'b1;
    if (start_i) begin
      requested <= '0;
      left <= count_i;
      beat <= '0;
      part <= '0;
    end
    if (!rst_ni) begin
      requested <= needed;
      error_o <= 1'b0;
    end
  end
endmodule
