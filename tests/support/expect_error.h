// A call that must fail: by whose fault, and what its message names.
#pragma once
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <string_view>

#include "base/error.h"

namespace crumb::test {

/// Passes when `call` throws crumb::Error of `kind` whose message has every one of `parts`.
template <class Call>
void expect_error(ErrorKind kind, std::initializer_list<std::string_view> parts, const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(to_string(error.kind()), to_string(kind)) << error.what();
    EXPECT_EQ(error.what()[0], '[') << error.what();
    for (const std::string_view part : parts) {
      EXPECT_NE(std::string_view(error.what()).find(part), std::string_view::npos)
          << "no '" << part << "' in: " << error.what();
    }
    return;
  }
  ADD_FAILURE() << "no error; expected " << to_string(kind);
}

}  // namespace crumb::test
