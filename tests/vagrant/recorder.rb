# Evaluates a Vagrantfile as one provider would see it and prints every setting, one a line, in Vagrant's words.
# recorder.rb VAGRANTFILE PROVIDER
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
  def self.configure(_version)
    yield Recorder.new("config", ARGV[1], $lines)
  end
end

$lines = []
load File.expand_path(ARGV[0])
puts $lines
