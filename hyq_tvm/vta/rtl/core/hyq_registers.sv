// The registers of the compute unit.
module hyq_registers
  import hyq_vta_pkg::*;
(
  input  logic clk_i,
  input  logic rst_ni,
  input  logic write_i,
  input  logic [4:0] register_i,
  input  logic [63:0] value_i,
  output logic [RegisterConstant:0][63:0] registers_o
);
  always_ff @(posedge clk_i) begin
    if (write_i) registers_o[register_i] <= value_i;
    if (!rst_ni) begin
      registers_o <= '0;
      registers_o[RegisterLow] <= ResetLow;
      registers_o[RegisterHigh] <= ResetHigh;
      registers_o[RegisterTableSize] <= ResetTableSize;
      registers_o[RegisterLanes] <= ResetLanes;
      registers_o[RegisterCount] <= ResetCount;
      registers_o[RegisterFractionBits] <= ResetFractionBits;
      registers_o[RegisterWeightBits] <= ResetWeightBits;
      registers_o[RegisterPeriod] <= ResetPeriod;
    end
  end
endmodule
