// A checkpoint as one GGUF file that llama.cpp loads. docs/formats/gguf.md.
#pragma once
#include "formats/exporter.h"

namespace crumb::formats {

/// "gguf". Block linears take the type of choose_gguf_type(); a linear of floats keeps its dtype. Embedding
/// and head: options.head_type, else Q8_0 where 32 divides the hidden size and the checkpoint does not ask
/// for float heads (Checkpoint::head_bits() == 0), else BF16 where the source is BF16, else F16. Norms and
/// biases are F32. A tied head is left out. Rows of q and k are in llama.cpp's order. options.tokenizer is
/// metadata as it stands; without it the file loads, but has no vocabulary.
const Exporter& gguf_exporter();

}  // namespace crumb::formats
