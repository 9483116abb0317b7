// What the two halves of the load unit tell each other, and the sizes of its memories.
package hyq_load_pkg;
  import hyq_vta_pkg::*;

  // Bytes of one word of the bus that belong to one entry, or an entry of padding.
  typedef struct packed {
    logic padding;
    logic new_beat;
    logic first;
    logic done;
    logic last;
    logic [3:0] memory;
    logic [7:0] source;
    logic [12:0] position;
    logic [7:0] bytes;
    logic [12:0] entry;
    logic [5:0] row;
  } piece_t;

  // Bytes of an element of a run, as a logarithm.
  function automatic logic [2:0] log_element(logic [3:0] memory);
    case (memory)
      MemoryUop, MemoryAcc: log_element = 3'd2;
      MemoryTbl, MemoryAcc16: log_element = 3'd1;
      MemoryPrm: log_element = 3'd4;
      default: log_element = 3'd0;
    endcase
  endfunction

  // Bytes of DRAM that fill one entry; of matrices, one row of it.
  function automatic logic [12:0] entry_bytes(logic [3:0] memory, logic [12:0] block);
    case (memory)
      MemoryUop: entry_bytes = 13'd4;
      MemoryTbl: entry_bytes = 13'd2;
      default: entry_bytes = block << log_element(memory);
    endcase
  endfunction
endpackage
