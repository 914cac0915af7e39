# Writes TO.c and TO.h: the bytes of FROM as the array SYMBOL of SYMBOL_size bytes.
file(READ ${FROM} hex HEX)
string(REGEX REPLACE "(..)" "0x\\1," bytes "${hex}")
get_filename_component(header ${TO}.h NAME)
file(WRITE ${TO}.h "#include <stddef.h>\nextern const unsigned char ${SYMBOL}[];\nextern const size_t ${SYMBOL}_size;\n")
file(WRITE ${TO}.c "#include \"${header}\"\nconst unsigned char ${SYMBOL}[] = {${bytes}};\n"
    "const size_t ${SYMBOL}_size = sizeof ${SYMBOL};\n")
