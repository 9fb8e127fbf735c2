// How GGUF types hold a quantized linear, and which is chosen.
#include <algorithm>
#include <array>
#include <cmath>
#include <mutex>

#include "base/half.h"
#include "base/parallel_for.h"
#include "base/str.h"
#include "formats/gguf_pack.h"
#include "formats/gguf_whole.h"

namespace crumb::formats {
namespace {

using quant::QuantizedLinear;

constexpr float kFirstInfinite = 65520.0f;  // rounds to infinity in binary16
constexpr std::int64_t kRowsOfAPart = 4;
/// Q2_0 takes a linear nearly when at most one block in so many has to be rounded anew.
constexpr std::int64_t kFew = 10;

/// What keeps a block from being held exactly; the last three leave it to be held by rounding.
enum Misfit { kScales, kRange, kBeyond, kScaleRounded, kOffsetRounded, kValueRounded, kFits };

/// Order of the choice, with the bits of its codes.
struct Choice {
  std::string_view name;
  int bits;
};
constexpr Choice kChoices[] = {{"Q2_0", 2}, {"Q2_K", 2}, {"Q3_K", 3}, {"Q4_0", 4}, {"Q4_K", 4},
                               {"Q4_1", 4}, {"Q5_0", 5}, {"Q8_0", 8}, {"F16", 16}};

bool is_half(float value) {
  return round_to_f16(value) == value;
}

Misfit scale_misfit(float scale) {
  return std::abs(scale) >= kFirstInfinite ? kBeyond : is_half(scale) ? kFits : kScaleRounded;
}

/// Of whole-number types, and of Q3_K, whose sub-blocks are whole numbers too.
Misfit whole_misfit(const QuantizedLinear& linear, std::int64_t row, std::int64_t first, std::int64_t count,
                    int least, int most) {
  const std::optional<Whole> whole = read_whole(linear, row, first, count);
  if (!whole) return kScales;
  const Misfit of_scale = scale_misfit(whole->d);
  return of_scale != kBeyond && whole->sign(count, least, most) == 0 ? kRange : of_scale;
}

struct Scan {
  std::int64_t blocks = 0;
  std::array<std::int64_t, kFits> count{};  // by Misfit
  std::array<std::int64_t, kFits> first{};  // the first weight of the first such block
  bool any(Misfit kind) const { return count[kind] > 0; }
};

/// misfit(row, first column) of every `count` columns.
template <class Of>
Scan scan_blocks(const QuantizedLinear& linear, std::int64_t count, const Of& misfit) {
  Scan scan;
  scan.blocks = linear.n * (linear.k / count);
  std::mutex mutex;
  parallel_for(linear.n, kRowsOfAPart, [&](std::int64_t begin, std::int64_t end) {
    Scan part;
    for (std::int64_t row = begin; row < end; ++row) {
      for (std::int64_t column = 0; column < linear.k; column += count) {
        const Misfit kind = misfit(row, column);
        if (kind != kFits && part.count[kind]++ == 0) part.first[kind] = row * linear.k + column;
      }
    }
    const std::lock_guard<std::mutex> lock(mutex);
    for (int kind = 0; kind < kFits; ++kind) {
      if (part.count[kind] == 0) continue;
      if (scan.count[kind] == 0 || part.first[kind] < scan.first[kind]) scan.first[kind] = part.first[kind];
      scan.count[kind] += part.count[kind];
    }
  });
  return scan;
}

/// "5 of 1536 blocks of 64, the first in row 3 at column 128"
std::string where_of(const QuantizedLinear& linear, const Scan& scan, Misfit kind, std::int64_t count) {
  return cat(scan.count[kind], " of ", scan.blocks, " blocks of ", count, ", the first in row ",
             scan.first[kind] / linear.k, " at column ", scan.first[kind] % linear.k);
}

/// The sentence about the gravest misfit of a scan.
GgufFit judge(const QuantizedLinear& linear, const GgufType& type, const Scan& scan, std::int64_t count,
              const std::string& range) {
  const std::int64_t group = linear.spec.group_of(linear.k), groups = linear.k / group;
  const auto at = [&](Misfit kind) {
    return static_cast<std::size_t>(scan.first[kind] / linear.k * groups +
                                    scan.first[kind] % linear.k / group);
  };
  const auto answer = [&](GgufHold hold, Misfit kind, const std::string& what) {
    return GgufFit{&type, hold,
                   hold == GgufHold::kExactly
                       ? std::string()
                       : cat(type.name, ": ", what, " in ", where_of(linear, scan, kind, count))};
  };
  if (scan.any(kBeyond))
    return answer(GgufHold::kNot, kBeyond,
                  cat("scale ", linear.scales[at(kBeyond)], " is beyond binary16's 65504"));
  if (scan.any(kScales)) return answer(GgufHold::kNot, kScales, "groups with different scales meet");
  if (scan.any(kRange)) {
    const bool few = type.name == "Q2_0" && scan.count[kRange] * kFew <= scan.blocks;
    return answer(
        few ? GgufHold::kNearly : GgufHold::kNot, kRange,
        cat("values of zero point ", int{linear.zero_points[at(kRange)]}, " do not fit in ", range));
  }
  if (scan.any(kScaleRounded))
    return answer(GgufHold::kNearly, kScaleRounded,
                  cat("scale ", linear.scales[at(kScaleRounded)], " is no binary16 number"));
  if (scan.any(kOffsetRounded))
    return answer(GgufHold::kNearly, kOffsetRounded,
                  cat("the offset of zero point ", int{linear.zero_points[at(kOffsetRounded)]}, " and scale ",
                      linear.scales[at(kOffsetRounded)], " is no binary16 number"));
  return answer(scan.any(kValueRounded) ? GgufHold::kNearly : GgufHold::kExactly, kValueRounded,
                "a weight is no binary16 number");
}

Misfit offset_misfit(float scale, int zero_point) {
  const float offset = -static_cast<float>(zero_point) * scale;
  if (std::abs(offset) >= kFirstInfinite) return kBeyond;
  const Misfit of_scale = scale_misfit(scale);
  return of_scale != kFits ? of_scale : is_half(offset) ? kFits : kOffsetRounded;
}

/// misfit(index of the group, row, first column) of every group, judged.
template <class Of>
GgufFit judge_groups(const QuantizedLinear& linear, const GgufType& type, const Of& misfit) {
  const std::int64_t group = linear.spec.group_of(linear.k), groups = linear.k / group;
  return judge(linear, type,
               scan_blocks(linear, group,
                           [&](std::int64_t row, std::int64_t column) {
                             return misfit(static_cast<std::size_t>(row * groups + column / group), row,
                                           column);
                           }),
               group, "");
}

GgufFit fit_q4_1(const QuantizedLinear& linear, const GgufType& type) {
  return judge_groups(linear, type, [&](std::size_t at, std::int64_t, std::int64_t) {
    return offset_misfit(linear.scales[at], linear.zero_points[at]);
  });
}

GgufFit fit_f16(const QuantizedLinear& linear, const GgufType& type) {
  const std::int64_t group = linear.spec.group_of(linear.k);
  return judge_groups(linear, type, [&](std::size_t at, std::int64_t row, std::int64_t column) {
    Misfit worst = kFits;
    for (std::int64_t i = column; i < column + group; ++i) {
      const int code = linear.codes[static_cast<std::size_t>(row * linear.k + i)];
      const float w = static_cast<float>(code - linear.zero_points[at]) * linear.scales[at];
      if (std::abs(w) >= kFirstInfinite) return kBeyond;
      if (!is_half(w)) worst = kValueRounded;
    }
    return worst;
  });
}

GgufFit fit_k_quant(const QuantizedLinear& linear, const GgufType& type) {
  const std::int64_t group = linear.spec.group_of(linear.k), sub_block = type.name == "Q4_K" ? 32 : 16;
  if (group % sub_block != 0) {
    return {&type, GgufHold::kNot,
            cat(type.name, ": groups of ", group, "; it has a scale for each ", sub_block, " weights")};
  }
  GgufFit fit;
  if (type.name == "Q3_K") {
    fit = judge(linear, type,
                scan_blocks(linear, sub_block,
                            [&](std::int64_t row, std::int64_t column) {
                              return whole_misfit(linear, row, column, sub_block, -4, 3);
                            }),
                sub_block, "-4 to 3");
  } else {
    fit = judge_groups(linear, type, [&](std::size_t at, std::int64_t, std::int64_t) {
      const Misfit kind = offset_misfit(linear.scales[at], linear.zero_points[at]);
      return kind == kOffsetRounded ? kFits : kind;  // its scale and whole-number minimum are exact
    });
  }
  if (fit.hold == GgufHold::kExactly && group % type.block_elements != 0) {
    return {&type, GgufHold::kNearly,
            cat(type.name, ": groups of ", group, " share one binary16 scale for ", type.block_elements,
                " weights, their own have ", type.name == "Q2_K" ? 4 : 6, " bits")};
  }
  return fit;
}

}  // namespace

GgufFit gguf_fit(const QuantizedLinear& linear, const GgufType& type) {
  const auto not_at_all = [&](const std::string& reason) {
    return GgufFit{&type, GgufHold::kNot, cat(type.name, ": ", reason)};
  };
  const auto choice = std::find_if(std::begin(kChoices), std::end(kChoices),
                                   [&](const Choice& each) { return each.name == type.name; });
  if (choice == std::end(kChoices)) return not_at_all("crumb does not write it");
  const bool by_codes = type.name == "Q2_K" || type.name == "Q4_K" || type.name == "Q4_1";
  if (by_codes && linear.spec.bits > choice->bits)
    return not_at_all(cat("codes of ", linear.spec.bits, " bits; it has ", choice->bits));
  if (linear.k % type.block_elements != 0)
    return not_at_all(cat(linear.k, " inputs are no multiple of its block of ", type.block_elements));
  const std::int64_t group = linear.spec.group_of(linear.k);
  if (type.name == "Q4_1" && group % 32 != 0)
    return not_at_all(cat("groups of ", group, " in its block of 32"));
  if (const WholeType* whole = find_whole(type)) {
    const std::int64_t count = type.block_elements;
    return judge(linear, type,
                 scan_blocks(linear, count,
                             [&](std::int64_t row, std::int64_t column) {
                               return whole_misfit(linear, row, column, count, whole->least, whole->most);
                             }),
                 count, cat(whole->least, " to ", whole->most));
  }
  if (type.name == "Q4_1") return fit_q4_1(linear, type);
  return type.name == "F16" ? fit_f16(linear, type) : fit_k_quant(linear, type);
}

GgufFit choose_gguf_type(const QuantizedLinear& linear, bool nearly) {
  std::string reasons;
  for (const Choice& choice : kChoices) {
    if (choice.bits < linear.spec.bits) continue;
    GgufFit fit = gguf_fit(linear, *find_gguf_type(choice.name));
    if (fit.hold == GgufHold::kExactly || (nearly && fit.hold == GgufHold::kNearly)) {
      fit.reason = reasons.empty() || fit.reason.empty() ? reasons + fit.reason : reasons + "; " + fit.reason;
      return fit;
    }
    reasons += cat(reasons.empty() ? "" : "; ", fit.reason);
  }
  return {nullptr, GgufHold::kNot, reasons};
}

}  // namespace crumb::formats
