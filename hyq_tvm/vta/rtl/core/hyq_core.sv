// The accelerator: fetch, load, compute and store, their queues and memories.
//
// Three AXI-style ports, one beat an address: instructions (read), loads (read) and stores (write,
// address and data together, confirmed one by one). `start_i` for a cycle runs the program of
// `count_i` instructions at `address_i`, a multiple of the bus; `done_o` rises with FINISH,
// `error_o` at an opcode that does not exist. Sizes are those of the architecture record.
module hyq_core
  import hyq_vta_pkg::*;
#(
  parameter int LogBlock = 4,
  parameter int LogQueue = 9,
  parameter int BusBytes = 16,
  parameter int SoftmaxLanes = 16,
  parameter int Dividers = 8,
  parameter int UopEntries = 8192,
  parameter int InpEntries = 2048,
  parameter int WgtEntries = 1024,
  parameter int AccEntries = 2048,
  parameter int TblEntries = 8192,
  parameter int PrmEntries = 128
) (
  input  logic clk_i,
  input  logic rst_ni,
  input  logic start_i,
  input  logic [31:0] address_i,
  input  logic [31:0] count_i,
  output logic done_o,
  output logic error_o,
  output logic insn_ar_valid_o,
  input  logic insn_ar_ready_i,
  output logic [31:0] insn_ar_address_o,
  input  logic insn_r_valid_i,
  output logic insn_r_ready_o,
  input  logic [BusBytes*8-1:0] insn_r_data_i,
  output logic ar_valid_o,
  input  logic ar_ready_i,
  output logic [31:0] ar_address_o,
  input  logic r_valid_i,
  output logic r_ready_o,
  input  logic [BusBytes*8-1:0] r_data_i,
  output logic w_valid_o,
  input  logic w_ready_i,
  output logic [31:0] w_address_o,
  output logic [BusBytes*8-1:0] w_data_o,
  output logic [BusBytes-1:0] w_strobe_o,
  input  logic b_valid_i,
  // For tracing: starts and ends of load, compute and store.
  output logic [2:0] trace_start_o,
  output logic [2:0] trace_done_o
);
  localparam int Block = 1 << LogBlock;
  localparam int UopBits = $clog2(UopEntries);
  localparam int InpBits = $clog2(InpEntries);
  localparam int WgtBits = $clog2(WgtEntries);
  localparam int AccBits = $clog2(AccEntries);
  localparam int TblBits = $clog2(TblEntries);
  localparam int PrmBits = $clog2(PrmEntries);

  logic [2:0] push, full, start, done;
  logic [InsnWidth-1:0] fetched;
  logic [2:0][InsnWidth-1:0] insn;
  logic [2:0][1:0] token_pop, token_valid, token_push, token_full;
  logic finish;

  assign trace_start_o = start;
  assign trace_done_o = done;

  hyq_fetch #(
    .BusBytes(BusBytes)
  ) u_fetch (
    .clk_i,
    .rst_ni,
    .start_i,
    .address_i,
    .count_i,
    .error_o,
    .ar_valid_o(insn_ar_valid_o),
    .ar_ready_i(insn_ar_ready_i),
    .ar_address_o(insn_ar_address_o),
    .r_valid_i(insn_r_valid_i),
    .r_ready_o(insn_r_ready_o),
    .r_data_i(insn_r_data_i),
    .push_o(push),
    .full_i(full),
    .insn_o(fetched)
  );

  for (genvar i = 0; i < 3; i++) begin : gen_issue
    hyq_issue #(
      .LogDepth(LogQueue)
    ) u_issue (
      .clk_i,
      .rst_ni,
      .push_i(push[i]),
      .insn_i(fetched),
      .full_o(full[i]),
      .token_pop_o(token_pop[i]),
      .token_valid_i(token_valid[i]),
      .token_push_o(token_push[i]),
      .token_full_i(token_full[i]),
      .start_o(start[i]),
      .insn_o(insn[i]),
      .done_i(done[i]),
      .idle_o()
    );
  end

  // Between neighbours: `i` gives to the unit after it, and that one gives back.
  for (genvar i = 0; i < 2; i++) begin : gen_tokens
    hyq_tokens #(
      .LogDepth(LogQueue)
    ) u_forward (
      .clk_i,
      .rst_ni,
      .push_i(token_push[i][1]),
      .full_o(token_full[i][1]),
      .pop_i(token_pop[i+1][0]),
      .valid_o(token_valid[i+1][0])
    );
    hyq_tokens #(
      .LogDepth(LogQueue)
    ) u_back (
      .clk_i,
      .rst_ni,
      .push_i(token_push[i+1][0]),
      .full_o(token_full[i+1][0]),
      .pop_i(token_pop[i][1]),
      .valid_o(token_valid[i][1])
    );
  end
  assign token_valid[0][0] = 1'b0;
  assign token_valid[2][1] = 1'b0;
  assign token_full[0][0] = 1'b1;
  assign token_full[2][1] = 1'b1;

  logic uop_write, tbl_write, prm_write, inp_load, acc_load, wgt_write, inp_compute, acc_compute;
  logic acc_blocked;
  logic [12:0] entry;
  logic [Block*128-1:0] raw;
  logic [Block-1:0][7:0] inp_load_data, inp_compute_data, inp_read;
  logic [Block-1:0][31:0] acc_load_data, compute_data;
  logic [Block*Block-1:0] wgt_mask;
  logic [Block*Block-1:0][7:0] wgt_data, wgt_read;
  logic [31:0] compute_entry;

  hyq_load #(
    .LogBlock(LogBlock),
    .BusBytes(BusBytes)
  ) u_load (
    .clk_i,
    .rst_ni,
    .start_i(start[0]),
    .insn_i(insn[0]),
    .done_o(done[0]),
    .ar_valid_o,
    .ar_ready_i,
    .ar_address_o,
    .r_valid_i,
    .r_ready_o,
    .r_data_i,
    .inp_busy_i(inp_compute),
    .acc_busy_i(acc_blocked),
    .uop_write_o(uop_write),
    .tbl_write_o(tbl_write),
    .prm_write_o(prm_write),
    .inp_write_o(inp_load),
    .acc_write_o(acc_load),
    .wgt_write_o(wgt_write),
    .entry_o(entry),
    .raw_o(raw),
    .inp_data_o(inp_load_data),
    .acc_data_o(acc_load_data),
    .wgt_mask_o(wgt_mask),
    .wgt_data_o(wgt_data)
  );

  logic [UopBits-1:0] uop_address;
  uop_t uop;
  logic [InpBits-1:0] inp_address;
  logic [WgtBits-1:0] wgt_address;
  logic [3:0][AccBits-1:0] acc_address;
  logic [3:0][Block-1:0][31:0] acc_read;
  logic [Block-1:0][TblBits-1:0] tbl_address;
  logic [Block-1:0][1:0][15:0] tbl_read;
  logic [PrmBits-1:0] prm_address;
  logic [Block-1:0][127:0] prm_read;

  hyq_compute #(
    .LogBlock(LogBlock),
    .SoftmaxLanes(SoftmaxLanes),
    .UopBits(UopBits),
    .InpBits(InpBits),
    .WgtBits(WgtBits),
    .AccBits(AccBits),
    .TblBits(TblBits),
    .PrmBits(PrmBits),
    .Dividers(Dividers)
  ) u_compute (
    .clk_i,
    .rst_ni,
    .start_i(start[1]),
    .insn_i(insn[1]),
    .done_o(done[1]),
    .finish_o(finish),
    .uop_address_o(uop_address),
    .uop_i(uop),
    .inp_address_o(inp_address),
    .inp_i(inp_read),
    .wgt_address_o(wgt_address),
    .wgt_i(wgt_read),
    .acc_address_o(acc_address[2:0]),
    .acc_i(acc_read[2:0]),
    .tbl_address_o(tbl_address),
    .tbl_i(tbl_read),
    .prm_address_o(prm_address),
    .prm_i(prm_read),
    .acc_write_o(acc_compute),
    .inp_write_o(inp_compute),
    .write_entry_o(compute_entry),
    .write_data_o(compute_data)
  );

  hyq_store #(
    .LogBlock(LogBlock),
    .BusBytes(BusBytes),
    .EntryBits(AccBits)
  ) u_store (
    .clk_i,
    .rst_ni,
    .start_i(start[2]),
    .insn_i(insn[2]),
    .done_o(done[2]),
    .acc_address_o(acc_address[3]),
    .acc_data_i(acc_read[3]),
    .w_valid_o,
    .w_ready_i,
    .w_address_o,
    .w_data_o,
    .w_strobe_o,
    .b_valid_i
  );

  hyq_ram #(
    .Width(UopWidth),
    .Depth(UopEntries)
  ) u_uop (
    .clk_i,
    .write_i(uop_write),
    .write_address_i(UopBits'(entry)),
    .write_mask_i(1'b1),
    .write_data_i(raw[31:0]),
    .read_address_i(uop_address),
    .read_data_o(uop)
  );

  for (genvar i = 0; i < Block; i++) begin : gen_low
    assign inp_compute_data[i] = compute_data[i][7:0];
  end
  hyq_ram #(
    .Width(Block * 8),
    .Depth(InpEntries)
  ) u_inp (
    .clk_i,
    .write_i(inp_load || inp_compute),
    .write_address_i(inp_compute ? InpBits'(compute_entry) : InpBits'(entry)),
    .write_mask_i(1'b1),
    .write_data_i(inp_compute ? inp_compute_data : inp_load_data),
    .read_address_i(inp_address),
    .read_data_o(inp_read)
  );

  hyq_ram #(
    .Width(Block * Block * 8),
    .Cell(8),
    .Depth(WgtEntries)
  ) u_wgt (
    .clk_i,
    .write_i(wgt_write),
    .write_address_i(WgtBits'(entry)),
    .write_mask_i(wgt_mask),
    .write_data_i(wgt_data),
    .read_address_i(wgt_address),
    .read_data_o(wgt_read)
  );

  hyq_banks #(
    .Width(Block * 32),
    .Depth(AccEntries),
    .Reads(4)
  ) u_acc (
    .clk_i,
    .write_i({acc_load, acc_compute}),
    .write_address_i({AccBits'(entry), AccBits'(compute_entry)}),
    .write_data_i({acc_load_data, compute_data}),
    .blocked_o(acc_blocked),
    .read_address_i(acc_address),
    .read_data_o(acc_read)
  );

  hyq_table #(
    .Depth(TblEntries),
    .Reads(Block)
  ) u_tbl (
    .clk_i,
    .write_i(tbl_write),
    .write_address_i(TblBits'(entry)),
    .write_data_i(raw[15:0]),
    .read_address_i(tbl_address),
    .read_data_o(tbl_read)
  );

  hyq_ram #(
    .Width(Block * 128),
    .Depth(PrmEntries)
  ) u_prm (
    .clk_i,
    .write_i(prm_write),
    .write_address_i(PrmBits'(entry)),
    .write_mask_i(1'b1),
    .write_data_i(raw),
    .read_address_i(prm_address),
    .read_data_o(prm_read)
  );

  always_ff @(posedge clk_i) begin
    if (finish) done_o <= 1'b1;
    if (start_i || !rst_ni) done_o <= 1'b0;
  end
endmodule
