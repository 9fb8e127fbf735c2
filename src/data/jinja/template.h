// A strict part of Jinja: what chat templates are written in. docs/chat_templates.md lists it.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace crumb::data::jinja {

/// Parsed once, rendered often. No library of Debian's renders the templates of common models: inja has no
/// methods, slices, namespaces or keyword arguments, and Jinja2Cpp is not packaged.
class Template {
 public:
  /// `subject` is named in errors. Throws Corrupt (with the line) for what is no Jinja, Unsupported for tags
  /// and operators that this part leaves out.
  Template(std::string_view text, std::string_view subject);
  ~Template();
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;

  /// `variables` is an object. transformers' raise_exception() and strftime_now() are there; `now` is the
  /// latter's clock, in seconds since 1970, shown in local time; absent: the machine's.
  ///
  /// Throws InvalidArgument with the template's own words where it calls raise_exception(), and where an
  /// operation does not fit its values (each with the line); Unsupported for filters, tests and methods that
  /// crumb does not have. Output, loops and calls are limited (16 MiB, a million steps, 1000 levels), so
  /// that no template can hang the program.
  std::string render(const nlohmann::ordered_json& variables, std::int64_t now = -1) const;

 private:
  struct Tree;
  std::unique_ptr<Tree> tree_;
};

}  // namespace crumb::data::jinja
