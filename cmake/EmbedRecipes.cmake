# crumb_embed_recipes(TARGET): recipes/*.json as one generated source of TARGET, so that the program needs no data folder.
function(crumb_embed_recipes TARGET)
  file(GLOB recipes CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/recipes/*.json")
  list(SORT recipes)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${recipes})
  set(entries "")
  foreach(recipe ${recipes})
    get_filename_component(name "${recipe}" NAME_WLE)
    file(READ "${recipe}" text)
    string(APPEND entries "    {\"${name}\", R\"~~~(${text})~~~\"},\n")
  endforeach()
  set(source "${CMAKE_BINARY_DIR}/generated/built_in_recipes.cc")
  file(CONFIGURE OUTPUT "${source}" @ONLY CONTENT "// Generated from recipes/*.json by cmake/EmbedRecipes.cmake.
#include \"recipe/built_in.h\"

namespace crumb::recipe {
namespace {
constexpr BuiltIn kBuiltIn[] = {
@entries@};
}  // namespace

std::span<const BuiltIn> built_in_recipes() noexcept { return kBuiltIn; }

}  // namespace crumb::recipe
")
  target_sources(${TARGET} PRIVATE "${source}")
endfunction()
