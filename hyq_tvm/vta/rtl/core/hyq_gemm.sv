// The multiplier array: a vector of the input buffer times a matrix of weights, a step a cycle,
// added to an entry of the accumulators or put in its place.
//
// Two steps that follow each other may add to one entry: the sum of the first is passed on.
module hyq_gemm
  import hyq_vta_pkg::*;
#(
  parameter int LogBlock = 4,
  parameter int AccBits = 11,
  localparam int Block = 1 << LogBlock
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic valid_i,
  input  logic [AccBits-1:0] entry_i,
  input  logic init_i,
  input  logic unsigned_i,
  // Read in the cycle of `valid_i`, here one later.
  input  logic [Block-1:0][7:0] inp_i,
  input  logic [Block*Block-1:0][7:0] wgt_i,
  output logic [AccBits-1:0] acc_address_o,
  input  logic [Block-1:0][31:0] acc_i,
  output logic write_o,
  output logic [AccBits-1:0] write_entry_o,
  output logic [Block-1:0][31:0] write_data_o,
  output logic busy_o
);
  localparam int Stages = 4;
  localparam int SumWidth = 17 + LogBlock;

  logic [Stages-1:1] valid;
  logic [Stages-1:1][AccBits-1:0] entry;
  logic [Block*Block-1:0][16:0] product;
  logic [Block-1:0][SumWidth-1:0] sum, sum_next;
  logic [Block-1:0][31:0] written;
  logic [AccBits-1:0] written_entry;
  logic written_valid;

  // 1: operands are read; 2: products; 3: sums, and the accumulator is read; then the addition.
  always_ff @(posedge clk_i) begin
    valid <= {valid[Stages-2:1], valid_i};
    entry <= {entry[Stages-2:1], entry_i};
    if (valid[1]) begin
      for (int o = 0; o < Block; o++) begin
        for (int i = 0; i < Block; i++) begin
          product[o*Block+i] <= 17'($signed({inp_i[i][7] & ~unsigned_i, inp_i[i]})
                                    * $signed(wgt_i[o*Block+i]));
        end
      end
    end
    if (valid[2]) sum <= sum_next;
    written_valid <= write_o;
    written_entry <= write_entry_o;
    written <= write_data_o;
    if (!rst_ni) begin
      valid <= '0;
      written_valid <= 1'b0;
    end
  end

  always_comb begin
    for (int o = 0; o < Block; o++) begin
      sum_next[o] = '0;
      for (int i = 0; i < Block; i++) begin
        sum_next[o] = sum_next[o] + SumWidth'($signed(product[o*Block+i]));
      end
    end
  end

  assign acc_address_o = entry[2];
  assign write_o = valid[3];
  assign write_entry_o = entry[3];
  always_comb begin
    for (int o = 0; o < Block; o++) begin
      write_data_o[o] = 32'($signed(sum[o]));
      if (!init_i) begin
        write_data_o[o] = write_data_o[o]
            + (written_valid && written_entry == entry[3] ? written[o] : acc_i[o]);
      end
    end
  end
  assign busy_o = valid_i || valid != '0;
endmodule
