#include "base/cache_dir.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <string>

namespace crumb {
namespace {

/// Sets or unsets a variable and puts the old value back.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    value == nullptr ? unsetenv(name) : setenv(name, value, 1);
  }
  ~Variable() { old_ ? setenv(name_, old_->c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

TEST(CacheDir, PrefersItsOwnVariableThenTheDesktopsThenHome) {
  const Variable home("HOME", "/h");
  {
    const Variable xdg("XDG_CACHE_HOME", "/x"), own("CRUMB_CACHE", "/own");
    EXPECT_EQ(cache_dir(), "/own");
  }
  const Variable own("CRUMB_CACHE", "");
  {
    const Variable xdg("XDG_CACHE_HOME", "/x");
    EXPECT_EQ(cache_dir(), "/x/crumb") << "an empty variable counts as unset";
  }
  const Variable xdg("XDG_CACHE_HOME", nullptr);
  EXPECT_EQ(cache_dir(), "/h/.cache/crumb");
}

}  // namespace
}  // namespace crumb
