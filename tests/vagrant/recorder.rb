# Evaluates a Vagrantfile as one provider would see it and prints every setting, one a line, in Vagrant's words.
# recorder.rb VAGRANTFILE PROVIDER
require "open3"

class Recorder
  def initialize(name, provider, lines, machine = nil)
    @name, @provider, @lines, @machine = name, provider, lines, machine
  end

  def section(name) = Recorder.new(name, @provider, @lines, @machine)

  def vm = section("vm")
  def ssh = section("ssh")
  def trigger = section("trigger")

  def provider(name)
    yield section(name.to_s), self_of_machine if name.to_s == @provider
  end

  def self_of_machine = Recorder.new("config", @provider, @lines, @machine)

  def define(name)
    yield Recorder.new("config", @provider, @lines, name)
  end

  def provision(name, **options)
    tell("provision #{name}", options.reject { |key, _| key == :inline }, options[:inline])
  end

  def before(event) = yield(section("trigger.before #{event}"))
  def after(event) = yield(section("trigger.after #{event}"))
  def ruby = tell("ruby", [])

  def respond_to_missing?(*) = true

  def method_missing(name, *arguments, **options)
    tell(name.to_s, [*arguments, *(options.empty? ? [] : [options])])
  end

  private

  def tell(what, arguments, text = nil)
    words = [@machine, "#{@name}.#{what}".sub(/ ?=$/, " ="), arguments.inspect[1..-2]].compact.reject(&:empty?)
    @lines << words.join(" ")
    text&.each_line do |line|
      shown = line.sub(/echo (\S+) \| base64 -d/) { "base64: #{Base64.decode64($1).inspect}" }
      @lines << "    #{shown.chomp}"
    end
  end
end

module Vagrant
  # Programs that a Vagrantfile asks run as Vagrant runs them.
  module Util
    module Which
      def self.which(name)
        ENV["PATH"].split(":").map { |path| File.join(path, name) }.find { |path| File.executable?(path) }
      end
    end

    module Subprocess
      Result = Struct.new(:exit_code, :stdout, :stderr)

      def self.execute(*words)
        out, err, status = Open3.capture3(*words)
        Result.new(status.exitstatus, out, err)
      end
    end
  end

  def self.configure(_version)
    yield Recorder.new("config", ARGV[1], $lines)
  end
end

$lines = []
load File.expand_path(ARGV[0])
puts $lines
