#!/bin/busybox sh
# The first process of the guest: loads the drivers, then runs commands that arrive on the second serial port.
# README.md, "Protocol", has the lines that are spoken here.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
LIMIT=@OUTPUT_SIZE_MAX@

/bin/busybox mkdir -p /proc /sys /dev /run /tmp /mnt /root
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
ln -sf /proc/self/mounts /etc/mtab
ip link set lo up

while read -r module; do
  insmod "/modules/$module" || echo "init: cannot load $module"
done </modules/order

# Raw and without echo before the first word is said: the other side is silent until then.
exec 3<>/dev/ttyS1
stty raw -echo 115200 <&3

# One writer on the port. Lines shorter than PIPE_BUF are not mixed by a FIFO, and it is open for both directions in this
# process, so that it never ends and opening it never waits.
mkfifo /run/answers
exec 4<>/run/answers

answer() {
  while read -r word id status <&4; do
    if [ "$word" = done ]; then
      echo "virtlab done $id $status $(stat -c %s "/run/$id.output")"
      head -c "$LIMIT" "/run/$id.output" | base64
      echo "virtlab end $id"
      rm -f "/run/$id".*
    else
      echo "virtlab $word $id"
    fi
  done >&3
}

# A session of its own, so that the whole family of a command can be killed.
execute() {
  setsid sh -c 'echo $$ >"$0.session"; exec sh "$0.script"' "/run/$1" </dev/null >"/run/$1.output" 2>&1 3>&- 4>&-
  echo "done $1 $?" >&4
}

leave() {
  sync
  while read -r device directory _; do
    case $device in /dev/*) umount "$directory" ;; esac
  done </proc/self/mounts
  "$1" -n -f
}

answer &
echo "virtlab ready $(cat /proc/sys/kernel/random/boot_id) $(uname -r)" >&3

while read -r word id size text <&3; do
  case $word in
    run)
      if [ "${#text}" = "$size" ] && echo "$text" | base64 -d >"/run/$id.script"; then
        execute "$id" &
      else
        echo "refused $id" >&4
      fi
      ;;
    kill) [ -e "/run/$id.session" ] && kill -KILL -- "-$(cat "/run/$id.session")" ;;
    poweroff) leave poweroff ;;
    reboot) leave reboot ;;
  esac
done
