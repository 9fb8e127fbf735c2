#include "formats/export/refusal.h"

#include "base/error.h"

namespace crumb::formats {

void refuse_structure(const Checkpoint& source, const Exporter& format) {
  const std::string reason = format.unfit_structure(source.config());
  if (reason.empty()) return;
  fail(ErrorKind::kUnsupported, "formats.export", source.path().string(), ": does not fit ", format.name(),
       ": ", reason, ". Take another format (crumb export --list shows which)");
}

void refuse_unfit(const Checkpoint& source, std::string_view format, const std::vector<LinearFit>& unfit,
                  std::size_t linears, bool nowhere) {
  if (unfit.empty()) return;
  constexpr std::size_t kShown = 3;
  std::vector<std::string> words;
  for (const LinearFit& fit : unfit) {
    if (words.size() == kShown) break;
    words.push_back(cat(fit.linear, ": ", fit.reason));
  }
  fail(ErrorKind::kUnsupported, "formats.export", source.path().string(), ": ", unfit.size(), " of ", linears,
       " linears do not fit ", format, nowhere ? "" : " without loss", ": ", join(words, "; "),
       unfit.size() > kShown ? cat("; and ", unfit.size() - kShown, " more") : std::string(), ". ",
       nowhere ? "Take another format (crumb export --list shows which)"
               : "Give --requantize to store the nearest, or take another format (crumb export --list shows "
                 "which)");
}

}  // namespace crumb::formats
