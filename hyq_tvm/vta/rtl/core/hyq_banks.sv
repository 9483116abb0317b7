// A memory with two write ports and any number of read ports, in four banks: port 1 waits only where
// port 0 writes the same bank. Answers a cycle later; a read of a cell that is written in the same
// cycle gives what was there before.
//
// Pairs of an address's bits are added without carry to give the bank, so that neither neighbours nor
// rows of a power of two entries stay in one.
module hyq_banks
#(
  parameter int Width = 512,
  parameter int Depth = 2048,
  parameter int Reads = 4,
  localparam int AddressWidth = $clog2(Depth)
) (
  input  logic clk_i,
  input  logic [1:0] write_i,
  input  logic [1:0][AddressWidth-1:0] write_address_i,
  input  logic [1:0][Width-1:0] write_data_i,
  output logic blocked_o,
  input  logic [Reads-1:0][AddressWidth-1:0] read_address_i,
  output logic [Reads-1:0][Width-1:0] read_data_o
);
  localparam int Banks = 4;

  logic [1:0][1:0] write_bank;
  logic [Reads-1:0][1:0] read_bank;
  logic [Reads-1:0][AddressWidth-3:0] read_row;
  logic [Banks-1:0][Reads-1:0][Width-1:0] answer;

  for (genvar p = 0; p < 2; p++) begin : gen_write
    assign write_bank[p] = bank(write_address_i[p]);
  end
  assign blocked_o = write_i[0] && write_bank[0] == write_bank[1];

  for (genvar b = 0; b < Banks; b++) begin : gen_bank
    logic first, second;
    assign first = write_i[0] && write_bank[0] == 2'(b);
    assign second = write_i[1] && write_bank[1] == 2'(b);
    hyq_ram #(
      .Width(Width),
      .Depth(Depth / Banks),
      .Reads(Reads)
    ) u_ram (
      .clk_i,
      .write_i(first || second),
      .write_address_i(write_address_i[!first][AddressWidth-1:2]),
      .write_mask_i(1'b1),
      .write_data_i(write_data_i[!first]),
      .read_address_i(read_row),
      .read_data_o(answer[b])
    );
  end

  for (genvar r = 0; r < Reads; r++) begin : gen_read
    assign read_row[r] = read_address_i[r][AddressWidth-1:2];
    always_ff @(posedge clk_i) read_bank[r] <= bank(read_address_i[r]);
    assign read_data_o[r] = answer[read_bank[r]][r];
  end

  function automatic logic [1:0] bank(logic [AddressWidth-1:0] address);
    bank = '0;
    for (int i = 0; i < AddressWidth; i++) bank[i%2] = bank[i%2] ^ address[i];
  endfunction
endmodule
