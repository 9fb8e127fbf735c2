#include "recipe/enums.h"

namespace crumb::recipe {

std::string_view to_string(Stage value) noexcept {
  return word_of(value);
}
std::string_view to_string(InitMethod value) noexcept {
  return word_of(value);
}
std::string_view to_string(Selection value) noexcept {
  return word_of(value);
}
std::string_view to_string(StoreDtype value) noexcept {
  return word_of(value);
}
std::string_view to_string(Precision value) noexcept {
  return word_of(value);
}
std::string_view to_string(E2eLoss value) noexcept {
  return word_of(value);
}
std::string_view to_string(ScaleDtype value) noexcept {
  return word_of(value);
}

}  // namespace crumb::recipe
