// One lane of VECTOR: what is shifted, and by how much.
//
// value, shift, round, point: r = clip((value + half >>> shift) + ZERO_POINT), each part if asked.
module hyq_vector_lane
  import hyq_vta_pkg::*;
(
  input  logic [4:0] op_i,
  input  logic signed [31:0] a_i,
  input  logic signed [31:0] b_i,
  input  logic [127:0] parameter_i,
  input  logic [3:0][31:0] row_i,
  input  logic signed [63:0] row_sum_i,
  input  logic signed [31:0] row_maximum_i,
  input  logic [RegisterConstant:0][63:0] registers_i,
  output logic signed [63:0] value_o,
  output logic [5:0] shift_o
);
  logic signed [63:0] a, b, multiplier, second, offset, joined;

  assign a = 64'(a_i);
  assign b = 64'(b_i);
  assign multiplier = 64'($signed(parameter_i[31:0]));
  assign second = 64'($signed(parameter_i[63:32]));
  assign offset = parameter_i[127:64];
  assign joined = {row_i[1], row_i[0]};

  always_comb begin
    value_o = b;
    shift_o = '0;
    case (op_i)
      FunctionMin: value_o = a < b ? a : b;
      FunctionMax: value_o = a > b ? a : b;
      FunctionAdd: value_o = a + b;
      FunctionSub: value_o = a - b;
      FunctionMul: value_o = a * b;
      FunctionShr: begin
        value_o = a;
        shift_o = {1'b0, b[4:0]};
      end
      FunctionReq, FunctionReqLookup: begin
        value_o = b * multiplier + offset;
        shift_o = second[5:0];
      end
      FunctionScaleAdd: begin
        value_o = a * multiplier + b * second + offset;
        shift_o = registers_i[RegisterShift][5:0];
      end
      FunctionRowSum: value_o = a + row_sum_i;
      FunctionRowMax: value_o = a > 64'(row_maximum_i) ? a : 64'(row_maximum_i);
      FunctionNorm: begin
        value_o = ($signed(registers_i[RegisterCount]) * b - 64'($signed(row_i[0])))
            * 64'($signed(row_i[1]));
        shift_o = row_i[2][5:0];
      end
      FunctionRescale: begin
        value_o = b * joined;
        shift_o = row_i[2][5:0];
      end
      FunctionRescaleWide: begin
        value_o = (a * 64'sd256 + b) * joined;
        shift_o = row_i[2][5:0];
      end
      default: ;
    endcase
  end
endmodule
