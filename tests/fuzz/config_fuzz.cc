// A config.json of any bytes: the model's numbers and the reader that its quantization asks for.
#include <nlohmann/json.hpp>

#include "formats/json_member.h"
#include "formats/packed_reader.h"
#include "fuzz_input.h"
#include "io/json.h"
#include "model/config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace crumb;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  fuzz::expect_no_crash([&] { (void)model::parse_hf_config(io::parse_json(text, "config"), "config"); });
  fuzz::expect_no_crash([&] {
    const auto reader = formats::make_packed_reader(io::parse_ordered_json(text, "config"), "config");
    if (reader) (void)reader->specs().of("model.layers.0.self_attn.q_proj");
  });
  return fuzz::expect_no_crash([&] {
    (void)formats::set_json_member(text, "quantization_config", "{}");
    (void)formats::erase_json_member(text, "quantization_config");
  });
}
