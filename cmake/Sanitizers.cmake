# CRUMB_SANITIZE=address,undefined instruments every target that this project builds. libtorch is not instrumented, so the
# presets that use it set CRUMB_TORCH=OFF.
if(CRUMB_SANITIZE)
  add_compile_options(-fsanitize=${CRUMB_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${CRUMB_SANITIZE})
endif()
