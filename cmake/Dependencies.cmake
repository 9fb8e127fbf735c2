# Everything outside of crumb's own purpose comes from Debian 12's packages (scripts/setup.sh installs them):
#   nlohmann-json JSON · CLI11 command line · spdlog logging · Oniguruma the regex engine that HF tokenizers use ·
#   sentencepiece · utf8proc NFC · zlib, zstd compressed text · libcurl named corpora · OpenSSL SHA-256 · GoogleTest
find_package(nlohmann_json REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(ZLIB REQUIRED)
find_package(CURL REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET GLOBAL libutf8proc)
add_library(utf8proc ALIAS PkgConfig::utf8proc)
pkg_check_modules(crumb_zstd REQUIRED IMPORTED_TARGET GLOBAL libzstd)
add_library(crumb_zstd ALIAS PkgConfig::crumb_zstd)
pkg_check_modules(crumb_oniguruma REQUIRED IMPORTED_TARGET GLOBAL oniguruma)
add_library(crumb_oniguruma ALIAS PkgConfig::crumb_oniguruma)
pkg_check_modules(crumb_sentencepiece REQUIRED IMPORTED_TARGET GLOBAL sentencepiece)
add_library(crumb_sentencepiece ALIAS PkgConfig::crumb_sentencepiece)

# One OpenMP runtime in the process: the wheel's copy when torch is linked, else the compiler's.
add_library(crumb_openmp INTERFACE)
if(CRUMB_TORCH)
  target_link_libraries(crumb_openmp INTERFACE torch_wheel::openmp)
else()
  find_package(OpenMP REQUIRED COMPONENTS CXX)
  target_link_libraries(crumb_openmp INTERFACE OpenMP::OpenMP_CXX)
endif()
if(CRUMB_TESTS)
  find_package(GTest REQUIRED)
  # ONNX's own message classes, which the tests read crumb's models with. Not in the program: libtorch has a protobuf of its own.
  find_package(Protobuf REQUIRED)
  find_package(ONNX REQUIRED)
endif()
