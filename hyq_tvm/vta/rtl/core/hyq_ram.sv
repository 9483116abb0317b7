// A memory with one write port and any number of read ports, answers a cycle later; a read of a
// cell that is written in the same cycle gives what was there before. Synthesis keeps a copy a
// read port.
module hyq_ram
#(
  parameter int Width = 32,
  parameter int Cell = Width,
  parameter int Depth = 16,
  parameter int Reads = 1,
  localparam int AddressWidth = Depth > 1 ? $clog2(Depth) : 1
) (
  input  logic clk_i,
  input  logic write_i,
  input  logic [AddressWidth-1:0] write_address_i,
  input  logic [Width/Cell-1:0] write_mask_i,
  input  logic [Width-1:0] write_data_i,
  input  logic [Reads-1:0][AddressWidth-1:0] read_address_i,
  output logic [Reads-1:0][Width-1:0] read_data_o
);
  logic [Width-1:0] cells [Depth] /* verilator public_flat_rw */;

  always_ff @(posedge clk_i) begin
    if (write_i) begin
      for (int i = 0; i < Width / Cell; i++) begin
        if (write_mask_i[i]) cells[write_address_i][i*Cell +: Cell] <= write_data_i[i*Cell +: Cell];
      end
    end
    for (int i = 0; i < Reads; i++) read_data_o[i] <= cells[read_address_i[i]];
  end
endmodule
