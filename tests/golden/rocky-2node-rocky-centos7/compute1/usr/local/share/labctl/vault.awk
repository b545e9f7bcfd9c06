# Made by labctl: a yum repository file that names the vault instead of mirrors that are gone (facts 2.4).
# vault: prefix of the point release, without a slash at its end; on, off: section names between spaces.
BEGIN { on = tolower(on); off = tolower(off) }
/^\[/ {
    section = " " tolower(substr($0, 2, index($0, "]") - 2)) " "
    force = ""
    if (index(on, section)) force = "enabled=1"
    if (index(off, section)) force = "enabled=0"
    print
    if (force != "") print force
    next
}
force != "" && /^[ \t]*enabled[ \t]*=/ { next }
/^[ \t]*(mirrorlist|metalink)[ \t]*=/ { print "#" $0; next }
/^#?[ \t]*baseurl[ \t]*=.*\/\/mirror\.centos\.org\// {
    sub(/^#[ \t]*/, "")
    match($0, /https?:\/\/mirror\.centos\.org\/[^\/]*\/[^\/]*/)
    print substr($0, 1, RSTART - 1) vault substr($0, RSTART + RLENGTH)
    next
}
{ print }
