# Writes FROM to TO with every field of type string as one of type bytes. Comments stay as they are.
file(READ ${FROM} text)
string(REGEX REPLACE "(\n *)string ([a-z_0-9]+ = )" "\\1bytes \\2" text "${text}")
string(REGEX REPLACE "(\n *repeated )string ([a-z_0-9]+ = )" "\\1bytes \\2" text "${text}")
file(WRITE ${TO} "${text}")
