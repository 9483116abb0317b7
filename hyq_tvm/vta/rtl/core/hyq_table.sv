// The table memory: every port gives two neighbouring words, because the even and the odd ones lie
// in memories of their own.
module hyq_table
#(
  parameter int Depth = 8192,
  parameter int Reads = 16,
  localparam int AddressWidth = $clog2(Depth)
) (
  input  logic clk_i,
  input  logic write_i,
  input  logic [AddressWidth-1:0] write_address_i,
  input  logic [15:0] write_data_i,
  input  logic [Reads-1:0][AddressWidth-1:0] read_address_i,
  output logic [Reads-1:0][1:0][15:0] read_data_o
);
  logic [Reads-1:0][AddressWidth-2:0] even_address, odd_address;
  logic [Reads-1:0][15:0] even, odd;
  logic [Reads-1:0] swapped;

  hyq_ram #(
    .Width(16),
    .Depth(Depth / 2),
    .Reads(Reads)
  ) u_even (
    .clk_i,
    .write_i(write_i && !write_address_i[0]),
    .write_address_i(write_address_i[AddressWidth-1:1]),
    .write_mask_i(1'b1),
    .write_data_i,
    .read_address_i(even_address),
    .read_data_o(even)
  );

  hyq_ram #(
    .Width(16),
    .Depth(Depth / 2),
    .Reads(Reads)
  ) u_odd (
    .clk_i,
    .write_i(write_i && write_address_i[0]),
    .write_address_i(write_address_i[AddressWidth-1:1]),
    .write_mask_i(1'b1),
    .write_data_i,
    .read_address_i(odd_address),
    .read_data_o(odd)
  );

  for (genvar i = 0; i < Reads; i++) begin : gen_port
    assign odd_address[i] = read_address_i[i][AddressWidth-1:1];
    assign even_address[i] = odd_address[i] + (AddressWidth - 1)'(read_address_i[i][0]);
    always_ff @(posedge clk_i) swapped[i] <= read_address_i[i][0];
    assign read_data_o[i] = swapped[i] ? {even[i], odd[i]} : {odd[i], even[i]};
  end
endmodule
