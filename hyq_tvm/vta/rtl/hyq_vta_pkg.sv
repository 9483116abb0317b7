// Generated from hyq_tvm/vta/isa/table.py by `python -m hyq_tvm.vta.isa`; do not edit.
package hyq_vta_pkg;
  localparam int unsigned IsaVersion = 1;
  localparam int unsigned InsnWidth = 128;
  localparam int unsigned UopWidth = 32;
  localparam int unsigned ParameterBytes = 16;

  typedef enum logic [2:0] {
    OpLoad = 3'd0,
    OpStore = 3'd1,
    OpGemm = 3'd2,
    OpFinish = 3'd3,
    OpVector = 3'd4,
    OpSoftmax = 3'd5,
    OpSet = 3'd6
  } opcode_e;

  typedef enum logic [3:0] {
    MemoryUop = 4'd0,
    MemoryWgt = 4'd1,
    MemoryInp = 4'd2,
    MemoryAcc = 4'd3,
    MemoryWgtT = 4'd4,
    MemoryAcc8 = 4'd5,
    MemoryAcc16 = 4'd6,
    MemoryAccu8 = 4'd7,
    MemoryTbl = 4'd8,
    MemoryPrm = 4'd9
  } memory_e;

  typedef enum logic [1:0] {
    OperandAcc = 2'd0,
    OperandImm = 2'd1,
    OperandPrm = 2'd2
  } operand_e;

  typedef enum logic [4:0] {
    FunctionMov = 5'd0,
    FunctionMin = 5'd1,
    FunctionMax = 5'd2,
    FunctionAdd = 5'd3,
    FunctionSub = 5'd4,
    FunctionMul = 5'd5,
    FunctionShr = 5'd6,
    FunctionReq = 5'd7,
    FunctionScaleAdd = 5'd8,
    FunctionLookup = 5'd9,
    FunctionRowSum = 5'd10,
    FunctionRowMax = 5'd11,
    FunctionMoments = 5'd12,
    FunctionRoot = 5'd13,
    FunctionNorm = 5'd14,
    FunctionReciprocal = 5'd15,
    FunctionRescale = 5'd16,
    FunctionRescaleWide = 5'd17,
    FunctionReqLookup = 5'd18
  } function_e;

  typedef enum logic [0:0] {
    TargetAcc = 1'd0,
    TargetInp = 1'd1
  } target_e;

  typedef enum logic [2:0] {
    ExponentialWeights = 3'd0,
    ExponentialLinearPot = 3'd1,
    ExponentialTable = 3'd2,
    ExponentialLinear = 3'd3,
    ExponentialPoly2 = 3'd4
  } exponential_e;

  typedef enum logic [2:0] {
    ResultWeight = 3'd0,
    ResultWeightWide = 3'd1,
    ResultUint8 = 3'd2,
    ResultLog2 = 3'd3,
    ResultGrid = 3'd4
  } result_e;

  typedef enum logic [4:0] {
    RegisterLoadYStride = 5'd0,
    RegisterLoadXStride = 5'd1,
    RegisterLoadPad = 5'd2,
    RegisterStoreYStride = 5'd3,
    RegisterStoreXStride = 5'd4,
    RegisterLow = 5'd5,
    RegisterHigh = 5'd6,
    RegisterZeroPoint = 5'd7,
    RegisterImmediate = 5'd8,
    RegisterShift = 5'd9,
    RegisterTableBase = 5'd10,
    RegisterTableLow = 5'd11,
    RegisterTableSize = 5'd12,
    RegisterLanes = 5'd13,
    RegisterCount = 5'd14,
    RegisterEpsilon = 5'd15,
    RegisterRescaleMultiplier = 5'd16,
    RegisterRescaleShift = 5'd17,
    RegisterFractionBits = 5'd18,
    RegisterWeightBits = 5'd19,
    RegisterGridMultiplier = 5'd20,
    RegisterGridPreShift = 5'd21,
    RegisterGridShift = 5'd22,
    RegisterLogitShift = 5'd23,
    RegisterPeriod = 5'd24,
    RegisterOffset = 5'd25,
    RegisterConstant = 5'd26
  } register_e;

  typedef struct packed {
    logic [14:0] unused;
    logic [3:0] pad_right;
    logic [3:0] pad_left;
    logic [3:0] pad_bottom;
    logic [3:0] pad_top;
    logic [12:0] length;
    logic [13:0] x_size;
    logic [13:0] y_size;
    logic [31:0] dram;
    logic [12:0] sram;
    logic [3:0] memory;
    logic push_next;
    logic push_prev;
    logic pop_next;
    logic pop_prev;
    logic [2:0] opcode;
  } load_t;

  typedef struct packed {
    logic [30:0] unused;
    logic [12:0] length;
    logic [13:0] x_size;
    logic [13:0] y_size;
    logic [31:0] dram;
    logic [12:0] sram;
    logic [3:0] memory;
    logic push_next;
    logic push_prev;
    logic pop_next;
    logic pop_prev;
    logic [2:0] opcode;
  } store_t;

  typedef struct packed {
    logic [9:0] wgt_in;
    logic [9:0] wgt_out;
    logic [10:0] src_in;
    logic [10:0] src_out;
    logic [10:0] dst_in;
    logic [10:0] dst_out;
    logic [13:0] iter_in;
    logic [13:0] iter_out;
    logic [13:0] uop_end;
    logic [12:0] uop_begin;
    logic inp_u8;
    logic init;
    logic push_next;
    logic push_prev;
    logic pop_next;
    logic pop_prev;
    logic [2:0] opcode;
  } gemm_t;

  typedef struct packed {
    logic [120:0] unused;
    logic push_next;
    logic push_prev;
    logic pop_next;
    logic pop_prev;
    logic [2:0] opcode;
  } finish_t;

  typedef struct packed {
    logic [1:0] unused;
    logic [5:0] third_in;
    logic [5:0] third_out;
    logic [10:0] src_in;
    logic [10:0] src_out;
    logic [10:0] dst_in;
    logic [10:0] dst_out;
    logic [13:0] iter_in;
    logic [13:0] iter_out;
    logic [13:0] uop_end;
    logic [12:0] uop_begin;
    logic target;
    logic [1:0] operand;
    logic [4:0] op;
    logic push_next;
    logic push_prev;
    logic pop_next;
    logic pop_prev;
    logic [2:0] opcode;
  } vector_t;

  typedef struct packed {
    logic [22:0] unused;
    logic [10:0] total;
    logic [10:0] plane;
    logic [10:0] dst_step;
    logic [10:0] dst;
    logic [10:0] src_step;
    logic [10:0] src;
    logic [12:0] length;
    logic [11:0] rows;
    logic target;
    logic [2:0] result;
    logic [2:0] exponential;
    logic push_next;
    logic push_prev;
    logic pop_next;
    logic pop_prev;
    logic [2:0] opcode;
  } softmax_t;

  typedef struct packed {
    logic [51:0] unused;
    logic signed [63:0] value;
    logic [4:0] register;
    logic push_next;
    logic push_prev;
    logic pop_next;
    logic pop_prev;
    logic [2:0] opcode;
  } set_t;

  typedef struct packed {
    logic [9:0] third;
    logic [10:0] src;
    logic [10:0] dst;
  } uop_t;

  localparam logic signed [63:0] ResetLoadYStride = 64'sd0;
  localparam logic signed [63:0] ResetLoadXStride = 64'sd0;
  localparam logic signed [63:0] ResetLoadPad = 64'sd0;
  localparam logic signed [63:0] ResetStoreYStride = 64'sd0;
  localparam logic signed [63:0] ResetStoreXStride = 64'sd0;
  localparam logic signed [63:0] ResetLow = -64'sd2147483648;
  localparam logic signed [63:0] ResetHigh = 64'sd2147483647;
  localparam logic signed [63:0] ResetZeroPoint = 64'sd0;
  localparam logic signed [63:0] ResetImmediate = 64'sd0;
  localparam logic signed [63:0] ResetShift = 64'sd0;
  localparam logic signed [63:0] ResetTableBase = 64'sd0;
  localparam logic signed [63:0] ResetTableLow = 64'sd0;
  localparam logic signed [63:0] ResetTableSize = 64'sd1;
  localparam logic signed [63:0] ResetLanes = 64'sd1;
  localparam logic signed [63:0] ResetCount = 64'sd1;
  localparam logic signed [63:0] ResetEpsilon = 64'sd0;
  localparam logic signed [63:0] ResetRescaleMultiplier = 64'sd0;
  localparam logic signed [63:0] ResetRescaleShift = 64'sd0;
  localparam logic signed [63:0] ResetFractionBits = 64'sd4;
  localparam logic signed [63:0] ResetWeightBits = 64'sd15;
  localparam logic signed [63:0] ResetGridMultiplier = 64'sd0;
  localparam logic signed [63:0] ResetGridPreShift = 64'sd0;
  localparam logic signed [63:0] ResetGridShift = 64'sd0;
  localparam logic signed [63:0] ResetLogitShift = 64'sd0;
  localparam logic signed [63:0] ResetPeriod = 64'sd1;
  localparam logic signed [63:0] ResetOffset = 64'sd0;
  localparam logic signed [63:0] ResetConstant = 64'sd0;
endpackage
