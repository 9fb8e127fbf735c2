#include <algorithm>
#include <cmath>

#include "base/str.h"
#include "runtime/roofline.h"

namespace crumb::runtime {
namespace {

constexpr double kLeft = 70, kTop = 40, kWidth = 640, kHeight = 400;

/// Both axes are logarithmic.
struct Axes {
  double x_low, x_high, y_low, y_high;
  double x(double v) const { return kLeft + kWidth * std::log(v / x_low) / std::log(x_high / x_low); }
  double y(double v) const { return kTop + kHeight * (1 - std::log(v / y_low) / std::log(y_high / y_low)); }
};

std::string text(double x, double y, std::string_view words, std::string_view anchor = "start",
                 std::string_view fill = "#222") {
  std::string safe;
  for (const char c : words)
    safe += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : std::string(1, c);
  return cat("<text x=\"", fixed(x, 1), "\" y=\"", fixed(y, 1), "\" text-anchor=\"", anchor, "\" fill=\"",
             fill, "\">", safe, "</text>\n");
}

std::string line(double x1, double y1, double x2, double y2, std::string_view style) {
  return cat("<line x1=\"", fixed(x1, 1), "\" y1=\"", fixed(y1, 1), "\" x2=\"", fixed(x2, 1), "\" y2=\"",
             fixed(y2, 1), "\" ", style, "/>\n");
}

std::string power(double value) {
  return value >= 1000 ? cat(value / 1000, "k") : cat(value);
}

}  // namespace

std::string roofline_svg(const RooflineModel& model, const MachineRates& rates,
                         const RooflinePrediction& prediction, const std::string& title) {
  const bool low = model.spec.has_value();
  struct Ceiling {
    std::string name;
    double gops;
  };
  std::vector<Ceiling> ceilings;
  if (low || model.head_bits != 0)
    ceilings = {{"int8, many rows", rates.int8_prompt_gops}, {"int8, one row", rates.int8_decode_gops}};
  ceilings.push_back({"f32", rates.f32_gflops});
  double top = 0, x_low = 0.1, x_high = 1000;
  for (const Ceiling& c : ceilings) top = std::max(top, c.gops);
  for (const auto* parts : {&prediction.decode, &prediction.prompt}) {
    for (const RooflinePart& p : *parts) {
      if (p.bytes > 0) x_high = std::max(x_high, 2 * p.ops / p.bytes);
    }
  }
  const auto decade = [](double v, bool up) {
    return std::pow(10.0, up ? std::ceil(std::log10(v)) : std::floor(std::log10(v)));
  };
  const Axes a{x_low, decade(x_high, true), decade(rates.read_gbps * x_low, false), decade(top * 1.2, true)};

  std::string out =
      cat("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"500\" font-family=\"sans-serif\" "
          "font-size=\"12\">\n",
          "<rect width=\"760\" height=\"500\" fill=\"#fff\"/>\n", text(kLeft, 22, title));
  for (double v = a.x_low; v <= a.x_high * 1.01; v *= 10) {
    out += line(a.x(v), kTop, a.x(v), kTop + kHeight, "stroke=\"#ddd\"");
    out += text(a.x(v), kTop + kHeight + 18, power(v), "middle");
  }
  for (double v = a.y_low; v <= a.y_high * 1.01; v *= 10) {
    out += line(kLeft, a.y(v), kLeft + kWidth, a.y(v), "stroke=\"#ddd\"");
    out += text(kLeft - 6, a.y(v) + 4, power(v), "end");
  }
  out += text(kLeft + kWidth / 2, kTop + kHeight + 40, "operations a byte of memory", "middle");
  out += cat("<text transform=\"translate(18 ", fixed(kTop + kHeight / 2, 1),
             ") rotate(-90)\" text-anchor=\"middle\">GOP/s</text>\n");
  for (const Ceiling& c : ceilings) {
    const double knee = std::max(c.gops / rates.read_gbps, a.x_low);
    out += line(a.x(knee), a.y(c.gops), kLeft + kWidth, a.y(c.gops), "stroke=\"#444\" stroke-width=\"1.5\"");
    out += text(kLeft + kWidth - 4, a.y(c.gops) - 5, cat(c.name, ", ", fixed(c.gops, 0), " GOP/s"), "end");
  }
  out += line(a.x(a.x_low), a.y(rates.read_gbps * a.x_low), a.x(top / rates.read_gbps), a.y(top),
              "stroke=\"#444\" stroke-width=\"1.5\"");
  out += text(a.x(a.x_low) + 40, a.y(rates.read_gbps * a.x_low) + 4,
              cat("reading, ", fixed(rates.read_gbps, 1), " GB/s"));
  for (const auto& [parts, color, pass] : {std::tuple{&prediction.decode, "#1565c0", "decode"},
                                           std::tuple{&prediction.prompt, "#c62828", "prompt"}}) {
    for (const RooflinePart& p : *parts) {
      if (p.bytes <= 0 || p.seconds <= 0) continue;
      const double x = a.x(std::clamp(p.ops / p.bytes, a.x_low, a.x_high)),
                   y = a.y(std::clamp(p.ops / p.seconds / 1e9, a.y_low, a.y_high));
      out +=
          cat("<circle cx=\"", fixed(x, 1), "\" cy=\"", fixed(y, 1), "\" r=\"4\" fill=\"", color, "\"/>\n");
      // Above the slope for decoding, below it and below the ceilings for prompts: there nothing else is
      // written.
      if (std::string_view(pass) == "decode")
        out += text(x - 8, y - 6, cat(pass, " ", p.name), "end", color);
      else
        out += text(x + 8, y + 16, cat(pass, " ", p.name), "start", color);
    }
  }
  out += text(kLeft + kWidth, 22,
              cat("decode ", fixed(prediction.decode_tokens_per_second, 1), " tokens/s, prompt ",
                  fixed(prediction.prompt_tokens_per_second, 0), " tokens/s"),
              "end");
  return out + "</svg>\n";
}

}  // namespace crumb::runtime
